# METADATA
# title: two Kafka clusters on one path in ZooKeeper
# description: >-
#   The path holds who the brokers are and which partitions they lead. A second set of brokers there has the ids of the first:
#   it does not start, or, where it is larger, joins the other cluster, takes over its topics and gives its clients the
#   addresses of both.
# custom:
#   code: MM324
#   severity: deny
#   fix: Give each cluster a path of its own, as in metamorph.dev/zookeeper host:2181/NAME.
#   match: {roles: [kafka]}
package metamorph.policies.zookeeper_path

import data.metamorph.lib

value := lib.setting("zookeeper")

here := input.namespace.name

deny contains object.union(cure, result) if {
	value != "false"
	moves
	some namespace, sets in data.cluster.StatefulSet
	some name, set in sets
	theirs := set.settings.zookeeper
	not theirs in skipped
	set.role == "kafka"
	lib.zookeeper_path(theirs, name) == path
	[namespace, name] != [here, input.request.name]
	some server in lib.zookeeper_servers(theirs, namespace, name)
	server in ours
	result := {"msg": sprintf("%s/%s uses the path %s of the ensemble at %s, too", [namespace, name, path, server]), "annotation": "zookeeper"}
}

# KRaft has no path, and an ensemble of a set's own is nobody else's.
skipped := {"false", value} if value == "true"

skipped := {"false"} if value != "true"

# What was found at creation is left to audits.
moves if input.request.operation != "UPDATE"

moves if lib.old_setting("zookeeper") != value

path := lib.zookeeper_path(value, input.request.name)

ours := lib.zookeeper_servers(value, here, input.request.name)

# At creation a path of its own; afterwards another path would be an empty cluster.
cure := {"fix": fix} if {
	input.request.operation == "CREATE"
	lib.zookeeper_external(value)
	fix := sprintf("%s/%s-%s", [split(value, "/")[0], here, input.request.name])
} else := {"fix": was} if {
	was := lib.old_setting("zookeeper")
} else := {}
