# METADATA
# title: several brokers depend on one controller or on one ZooKeeper server
# description: >-
#   While the one that knows the metadata is away, no partition gets a new leader, no topic is created and no broker can
#   start; and if its disk is lost, so is the whole cluster, however many copies of the records there are. A KRaft quorum
#   keeps the size that it was created with, so that more brokers do not mend it later.
# custom:
#   code: MM305
#   severity: warn
#   profiles: {production: deny, dev: "off"}
#   fix: >-
#     Create the set with 3 or more replicas, so that 3 of them are controllers; with ZooKeeper, give the ensemble 3 servers
#     (metamorph.dev/zookeeper-replicas). A set that has one controller already cannot change that: create a new one, and
#     replicate to it.
#   match:
#     roles: [kafka, zookeeper]
#     operations: [CREATE, UPDATE, SCALE]
package metamorph.policies.single_controller

import data.metamorph.lib

deny contains result if {
	some result in results
	not had_one
}

# More brokers are better than one, whatever they depend on, so nobody is kept from growing.
warn contains result if {
	some result in results
	had_one
}

results contains object.union({"msg": sprintf("%d brokers have 1 controller", [input.replicas])}, where) if {
	input.replicas > 1
	lib.quorum_voters == 1
}

results contains {
	"msg": sprintf("%d brokers have 1 ZooKeeper server", [input.replicas]),
	"annotation": "zookeeper-replicas",
	"fix": "3",
} if {
	own
	input.replicas > 1
	one_server(input.settings)
}

results contains {
	"msg": sprintf("%d brokers have 1 ZooKeeper server: %s", [input.replicas, name]),
	"field": "metadata.annotations[metamorph.dev/zookeeper]",
} if {
	name := input.settings.zookeeper.value
	not name in {"true", "false"}
	input.replicas > 1
	data.cluster.StatefulSet[input.namespace.name][name].replicas == 1
}

results contains {
	"msg": sprintf("%d brokers have 1 ZooKeeper server: %s", [set.replicas, input.request.name]),
	"annotation": "replicas",
	"fix": "3",
} if {
	input.role == "zookeeper"
	input.replicas == 1
	set := data.cluster.StatefulSet[input.namespace.name][_]
	set.role == "kafka"
	set.replicas > 1
	input.request.name == ensemble(set)
}

own if input.settings.zookeeper.value == "true"

one_server(settings) if settings["zookeeper-replicas"].value == "1"

# ensemble is the name of the one that a Kafka set uses.
ensemble(set) := set.settings.zookeeper if set.settings.zookeeper != "true"

ensemble(set) := sprintf("%s-zookeeper", [set.metadata.name]) if set.settings.zookeeper == "true"

# where is what would help: more nodes, as long as there is no quorum yet.
where := {"annotation": "replicas", "fix": "3"} if {
	input.request.operation == "CREATE"
	input.replicas < 3
} else := {"field": lib.property_field("controller.quorum.voters")}

# had_one tells that the stored object had but one as well.
had_one if {
	input.role == "kafka"
	input.oldObject
	not own
}

had_one if {
	input.role == "kafka"
	one_server(input.oldSettings)
}

had_one if {
	input.role == "zookeeper"
	input.oldReplicas == 1
}
