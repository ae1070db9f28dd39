# METADATA
# title: min.insync.replicas does not fit the replication factor
# description: >-
#   Where every copy must be in sync, each restart of a broker stops the producers that want to be sure (acks=all), for as
#   long as it takes. Where one is enough although there are three or more, a record may be acknowledged that is on one
#   disk only, and is lost with it.
# custom:
#   code: MM303
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Set metamorph.dev/min-insync-replicas to 2 with 3 copies, to 1 with fewer, and else to one more than half of the
#     copies. Since Kafka 4.1 a running cluster has its own value, which kafka-configs.sh changes.
#   match:
#     roles: [kafka]
package metamorph.policies.min_insync

import data.metamorph.lib

deny contains result(key, pair, "one broker down stops producers") if {
	some key, pair in tight
	pair.isr == pair.copies
}

deny contains result(key, pair, "nothing is ever acknowledged") if {
	some key, pair in tight
	pair.isr > pair.copies
}

deny contains result(key, pair, thin) if {
	some key, pair in loose
	input.profile == "production"
}

warn contains result(key, pair, thin) if {
	some key, pair in loose
	not input.profile in ["production", "dev"]
}

thin := "an acknowledged record may be on one disk only"

tight[key] := pair if {
	some key, pair in pairs
	pair.isr >= pair.copies
	pair.isr > 1
	not follows(key, pair)
}

# With two copies there is no better choice: 2 would stop producers. Three copies and 2 are what Kafka's documentation calls
# a typical scenario.
loose[key] := pair if {
	some key, pair in pairs
	pair.isr == 1
	pair.copies >= 3
	not follows(key, pair)
}

result(key, pair, what) := object.union(cure(key, pair), {
	"msg": sprintf("%s=%d with %s: %s", [key, pair.isr, copies(pair.copies), what]),
	"field": lib.property_field(key),
})

copies(n) := "1 copy" if n == 1

copies(n) := sprintf("%d copies", [n]) if n != 1

factor := {
	"min.insync.replicas": "default.replication.factor",
	"transaction.state.log.min.isr": "transaction.state.log.replication.factor",
	"share.coordinator.state.topic.min.isr": "share.coordinator.state.topic.replication.factor",
}

pairs := {key: {"isr": to_number(isr), "copies": to_number(copies)} |
	some key, of in factor
	isr := lib.node_properties[key]
	copies := lib.node_properties[of]

	# The usual pair is right.
	[isr, copies] != ["2", "3"]
	regex.match(`^[0-9]{1,9}$`, isr)
	regex.match(`^[0-9]{1,9}$`, copies)
}

# follows tells that the numbers of an internal topic are those that the settings give it, so that the finding on these says
# it all.
follows(key, pair) if {
	key != "min.insync.replicas"
	own := pairs["min.insync.replicas"]
	pair.isr == min([2, own.isr, own.copies])
	pair.copies == min([3, own.copies])
}

cure(key, pair) := lib.property_cure(key, "min-insync-replicas", majority(pair.copies)) if key == "min.insync.replicas"

cure(key, pair) := {"annotation": "config", "fix": lib.config_with(key, majority(pair.copies))} if {
	key != "min.insync.replicas"
	configured(key)
}

cure(key, _) := {} if {
	key != "min.insync.replicas"
	not configured(key)
}

configured(key) if lib.config_has(key)

configured(key) if lib.config_has(factor[key])

# majority is one more than half, and 1 where that would be all.
majority(n) := 1 if n < 3

majority(n) := floor(n / 2) + 1 if n >= 3
