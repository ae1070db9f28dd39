# METADATA
# title: nodes are removed, or added, that others depend on
# description: >-
#   A StatefulSet removes nodes without asking Kafka. Partitions that were only there are gone, with too few brokers no topic can
#   be created or written, and without a majority of its controllers the whole cluster stands still. A ZooKeeper ensemble
#   that changes by two servers at once can hold two majorities that do not know of each other, and lose what one of them wrote.
# custom:
#   code: MM326
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Before brokers go, move their partitions with kafka-reassign-partitions.sh; keep as many as the replication factor and all
#     controllers. Change a ZooKeeper ensemble by one server at a time, each time until all are ready. More controllers
#     need a new set. 0 stops everything and keeps the volumes.
#   match: {roles: [kafka, zookeeper], operations: [UPDATE, SCALE]}
package metamorph.policies.shrink

import data.metamorph.lib

# Stopping a set on purpose, for a night or a move, is legitimate and undone by scaling up again.
warn contains {"msg": "0 stops every node", "field": "spec.replicas"} if {
	input.replicas == 0
	input.oldReplicas > 0
}

# Brokers.

fewer if {
	input.role == "kafka"
	input.replicas < input.oldReplicas
	input.replicas > 0
}

whole(text) := to_number(text) if regex.match(`^[0-9]{1,9}$`, text)

controllers := whole(lib.setting("controllers"))

insync := whole(input.config["min.insync.replicas"])

copies[key] := n if {
	some key in [
		"default.replication.factor", "offsets.topic.replication.factor", "transaction.state.log.replication.factor",
		"share.coordinator.state.topic.replication.factor",
	]
	n := whole(input.config[key])
}

most := max([n | some n in copies])

# The quorum is fixed: controllers that are gone go on counting as voters.
deny contains too_few(sprintf("%d leaves no more than that of the %d controllers", [input.replicas, controllers])) if {
	fewer
	input.replicas < controllers
}

deny contains too_few(sprintf("%d is below min.insync.replicas=%d", [input.replicas, insync])) if {
	fewer
	unwritable
}

deny contains too_few(sprintf("%d is below %s=%d", [input.replicas, keys[0], most])) if {
	fewer
	not unwritable
	input.replicas < most
	keys := [key | some key, n in copies; n == most]
}

unwritable if input.replicas < insync

too_few(msg) := {"msg": msg, "annotation": "replicas", "fix": sprintf("%d", [min([input.oldReplicas, max(needed)])])}

needed contains controllers

needed contains insync

needed contains most

warn contains {"msg": msg, "field": "spec.replicas"} if {
	fewer
	every n in needed { input.replicas >= n }
	msg := gone(input.replicas, input.oldReplicas - 1)
}

gone(first, last) := sprintf("broker %d goes, and the partitions on it", [last]) if first == last

gone(first, last) := sprintf("brokers %d to %d go, and the partitions on them", [first, last]) if first != last

# The one time that growth does not give what people expect of it.
warn contains {"msg": "the quorum keeps its one controller, and the cluster stands still with it", "field": "spec.replicas"} if {
	input.oldReplicas < 3
	input.oldReplicas > 0
	input.replicas >= 3
	controllers == 1
}

# ZooKeeper. The servers' list changes by a rolling restart, of which ZooKeeper's own guide says that it has cost data. It is
# safe where every majority of the old list has a server in every one of the new: with sizes that differ by one. Servers 2, 3
# and 4 are a majority of five, and servers 0 and 1 go on as one of three.

ensemble := {"was": input.oldReplicas, "now": input.replicas, "annotation": "replicas", "field": "spec.replicas"} if input.role == "zookeeper"

ensemble := {"was": was, "now": now, "annotation": key, "field": sprintf("metadata.annotations[metamorph.dev/%s]", [key])} if {
	lib.setting("zookeeper") == "true"
	key := "zookeeper-replicas"
	was := whole(lib.old_setting(key))
	now := whole(lib.setting(key))
}

deny contains result if {
	ensemble.was > 0
	ensemble.now > 0
	abs(ensemble.now - ensemble.was) > 1
	result := {
		"msg": sprintf("the ensemble goes from %d to %d servers at once", [ensemble.was, ensemble.now]),
		"annotation": ensemble.annotation,
		"fix": sprintf("%d", [ensemble.was + round((ensemble.now - ensemble.was) / abs(ensemble.now - ensemble.was))]),
	}
}

deny contains {"msg": "2 servers survive no failure", "annotation": ensemble.annotation, "fix": "3"} if {
	ensemble.was == 3
	ensemble.now == 2
}

warn contains {"msg": msg, "field": ensemble.field} if {
	ensemble.was - ensemble.now == 1
	ensemble.now > 2
	ensemble.now % 2 == 0
	msg := sprintf("%d servers survive no more failures than %d", [ensemble.now, ensemble.now - 1])
}
