# METADATA
# title: a Kafka or ZooKeeper that nobody looks after
# description: >-
#   A StatefulSet that runs Kafka or ZooKeeper without Metamorph's annotations is neither completed nor judged: none of the other
#   policies sees its heap, its volumes or its replication.
# custom:
#   code: MM338
#   severity: audit
#   fix: >-
#     A running set cannot be taken over. Create one with metamorph.dev/role beside it, let it take the partitions over, then delete
#     this one.
#   match: {roles: [plain]}
#   parameters:
#     images:
#       type: array
#       items: {type: string, minLength: 1}
#       default: [kafka, kafka-native, cp-kafka, cp-server, kafka-broker, kafka-server, zookeeper]
#       description: Last parts of the names of images that run Kafka or ZooKeeper.
package metamorph.policies.unmanaged

deny contains result if {
	some name, container in input.containers
	not container.init
	why := looks(container)
	not somebodys
	result := {
		"msg": sprintf("the container %s %s; create the set anew with metamorph.dev/role", [name, why]),
		"field": sprintf("spec.template.spec.containers[%s]", [name]),
	}
}

looks(container) := sprintf("runs the image %s", [container.image.reference]) if {
	parts := split(container.image.repository, "/")
	runs_it(parts[count(parts) - 1])
} else := sprintf("has %s and the port %v, as Kafka and ZooKeeper do", [key, port.containerPort]) if {
	some port in container.spec.ports
	prefix := {9092: "KAFKA_", 2181: "ZOO"}[port.containerPort]
	keys := [k | some k, _ in container.env; startswith(k, prefix)]
	key := min(keys)
}

runs_it(image) if image in data.parameters.images

# acme-kafka, kubernetes-zookeeper.
runs_it(image) if regex.match(`-(?:kafka|zookeeper)$`, image)

# An operator's set follows its operator, whatever is written on it.
somebodys if {
	some owner in input.object.metadata.ownerReferences
	owner.controller
}

# Metamorph was told to let go of it, and left this.
somebodys if input.object.metadata.annotations["metamorph.dev/cluster-id"]
