# METADATA
# title: the number of copies does not fit the number of brokers
# description: >-
#   With more copies than brokers no topic can be created that asks for the default, and where it is an internal topic,
#   consumer groups or transactions never start. With one copy, one lost disk loses its records for good, and one
#   restarting broker stops everybody who needs them.
# custom:
#   code: MM302
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Set metamorph.dev/replication-factor to at most the number of brokers (spec.replicas), with 3 copies on 3 or more.
#     Topics that exist keep the copies that they have; kafka-reassign-partitions.sh changes them.
#   match:
#     roles: [kafka]
#     operations: [CREATE, UPDATE, SCALE]
package metamorph.policies.replication_brokers

import data.metamorph.lib

# More than there are brokers. A set that is scaled to 0 is switched off, and comes back with its brokers.
deny contains result if {
	input.replicas > 0
	max(numbers) > input.replicas
	some key, n in copies
	n > input.replicas
	not follows(key)
	result := object.union(cure(key, n), {
		"msg": sprintf("%s=%d with %s", [key, n, lib.amount_of(input.replicas, "broker")]),
		"field": lib.property_field(key),
	})
}

# A single one. That a set grew is no reason to refuse it: it has no fewer copies than before.
deny contains single(key) if {
	some key in singles
	not input.oldConfig[key] == "1"
}

warn contains single(key) if {
	some key in singles
	input.oldConfig[key] == "1"
}

singles contains key if {
	1 in numbers
	some key, 1 in copies
	matters
	not follows(key)
}

# Whoever scales a set does not change its topics; what is impossible then, the first rule finds.
matters if {
	input.replicas > 1
	input.profile != "dev"
	input.request.operation != "SCALE"
}

matters if {
	input.replicas == 1
	input.profile == "production"
	input.request.operation != "SCALE"
}

single(key) := object.union(cure(key, 1), {
	"msg": sprintf("%s=1: a lost disk is lost data", [key]),
	"field": lib.property_field(key),
})

copies := {key: lib.whole_number(text) | some key, text in written}

# Usually all of them are one number.
numbers := {lib.whole_number(text) | some text in {text | some text in written}}

written := {key: text | some key in keys; text := lib.node_properties[key]}

keys := [
	"default.replication.factor", "offsets.topic.replication.factor", "transaction.state.log.replication.factor",
	"share.coordinator.state.topic.replication.factor",
]

# follows tells that an internal topic has the copies that the setting gives it, so that the default's finding says it all.
follows(key) if {
	key != "default.replication.factor"
	copies[key] == min([3, copies["default.replication.factor"]])
}

# Three copies bear a restart and a failure at the same time (Strimzi's examples have three).
cure(_, n) := {"annotation": "replicas", "fix": sprintf("%d", [n])} if shrank(n)

cure(_, 1) := {"annotation": "replicas", "fix": "3"} if input.replicas == 1

cure(key, n) := lib.property_cure(key, setting(key), min([3, input.replicas])) if {
	not shrank(n)
	not lonely(n)
}

lonely(1) if input.replicas == 1

# shrank tells that there were enough brokers before.
shrank(n) if {
	n > input.replicas
	n <= input.oldReplicas
}

setting(key) := "replication-factor" if key == "default.replication.factor"

setting(key) := "" if key != "default.replication.factor"
