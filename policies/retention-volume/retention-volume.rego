# METADATA
# title: what is to be kept does not fit on the volume
# description: >-
#   A broker whose disk is full stops, and does not start again before there is room. The limit of retention.bytes is for
#   one partition, not for the broker, and a segment is deleted as a whole, so that a partition grows to the limit and one
#   segment more.
# custom:
#   code: MM309
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Lower metamorph.dev/retention-bytes to the volume divided by the partitions that a broker holds, less one segment; or
#     raise metamorph.dev/storage.
#   match: {roles: [kafka]}
package metamorph.policies.retention_volume

import data.metamorph.lib

# One partition fills the volume for certain.
deny contains object.union(cure(room), {"msg": msg}) if {
	partition > volume
	msg := sprintf("one partition grows to %s (log.retention.bytes and a segment), and the volume has %s", [
		lib.size(partition), lib.size(volume),
	])
}

# One topic with the default number of partitions would; how many topics there are, and how full, nobody knows here.
warn contains object.union(cure(room), {"msg": msg}) if {
	partition <= volume
	share * partition > volume
	msg := sprintf("a topic of %d partitions grows to %s on each broker, and the volume has %s", [
		partitions, lib.size(share * partition), lib.size(volume),
	])
}

warn contains object.union(cure(ceil(segment / mi)), {"msg": msg}) if {
	retention < segment
	msg := sprintf("log.segment.bytes (%s) is more than log.retention.bytes (%s), and only whole segments are deleted", [
		lib.size(segment), lib.size(retention),
	])
}

# cure is a limit in Mi, where it was written; without one where there is no room at all.
cure(n) := {"annotation": "retention-bytes", "fix": sprintf("%dMi", [n])} if {
	n > 0
	not lib.config_has(key)
}

cure(n) := {"annotation": "config", "fix": lib.config_with(key, format_int(n * mi, 10))} if {
	n > 0
	lib.config_has(key)
}

cure(n) := {"annotation": "retention-bytes"} if n <= 0

key := "log.retention.bytes"

# retention is undefined where there is no limit (-1).
retention := n if {
	n := lib.whole_number(lib.node_properties[key])
	n > 0
}

segment := lib.whole_number(lib.node_properties["log.segment.bytes"])

# partition is the most that one partition takes: Kafka deletes the oldest segment once the others have the limit
# (UnifiedLog.deleteRetentionSizeBreachedSegments).
partition := retention + segment

# volume is the claim's size, or what it was grown to: the claim template cannot follow.
volume := max([input.claims.data.storage, grown])

default grown := 0

grown := lib.resource_quantity(input.settings.storage.value) if input.settings.storage.from != "rule"

partitions := lib.whole_number(lib.node_properties["num.partitions"])

# share is how many partitions of a topic a broker holds.
share := ceil((partitions * min([copies, input.replicas])) / input.replicas) if {
	input.replicas > 0
	partitions > 0
	copies > 0
}

copies := lib.whole_number(lib.node_properties["default.replication.factor"])

# room is the limit in Mi that would do. A fifth of the volume is left to the file system, Kafka's own topics and other ones: a
# full disk stops a broker (strimzi#11845).
room := floor((((volume * 4) / (5 * share)) - segment) / mi) if share > 0

else := 0

mi := 1048576
