# METADATA
# title: a probe that kills brokers which are only busy
# description: >-
#   A broker that was killed reads its whole log before it serves again; a probe without the patience for that kills it
#   again, and it never starts. A liveness probe on the clients' port fails in a storm of reconnections and turns a slow
#   cluster into none. A probe that starts a JVM takes the memory that the container does not have, and is killed for it.
# custom:
#   code: MM315
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Leave the probes to Metamorph: a port that opens before log recovery, an hour or more to start, no JVM. A longer start needs
#     a larger startupProbe.failureThreshold; of a script of your own, let it open a port (bash: exec 3<>/dev/tcp/127.0.0.1/9094).
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     recovery:
#       type: number
#       minimum: 0
#       default: 3600
#       description: Seconds that a broker must be given to start, log recovery included.
#     devRecovery:
#       type: number
#       minimum: 0
#       default: 300
#       description: The same for the profile dev.
#     zookeeper:
#       type: number
#       minimum: 0
#       default: 120
#       description: Seconds that a ZooKeeper server must be given to start.
#     tolerance:
#       type: number
#       minimum: 0
#       default: 30
#       description: Seconds for which a liveness probe must fail before the container is killed.
#     programs:
#       type: array
#       items: {type: string, pattern: "^[A-Za-z0-9._-]+$"}
#       default: [
#         java, cub, kafka-acls, kafka-broker-api-versions, kafka-cluster, kafka-configs, kafka-console-consumer, kafka-console-producer,
#         kafka-consumer-groups, kafka-features, kafka-get-offsets, kafka-groups, kafka-log-dirs, kafka-metadata-quorum,
#         kafka-metadata-shell, kafka-run-class, kafka-storage, kafka-topics, kafka-verifiable-consumer,
#         kafka-verifiable-producer, zkCli, zkServer, zookeeper-shell]
#       description: Programs that start a JVM, without path and .sh.
package metamorph.policies.probes

import data.metamorph.lib

# Where the seconds are from. recovery: what is rendered at least; an unclean stop that ends in a loop of restarts is Strimzi's
# issue 5263. devRecovery: the default volume of 10Gi read at 50 MiB/s, and half as much again. zookeeper: 20 s to join the
# quorum (initLimit 10 of 2 s), and our guess for reading a large snapshot. tolerance: what Kubernetes does where nobody says
# anything, 3 failures 10 s apart.

spec := lib.main.spec

needed := data.parameters.zookeeper if input.role == "zookeeper"

needed := data.parameters.devRecovery if {
	input.role == "kafka"
	input.profile == "dev"
}

needed := data.parameters.recovery if {
	input.role == "kafka"
	input.profile != "dev"
}

busy := {"kafka": "log recovery", "zookeeper": "reading a snapshot"}[input.role]

deny contains result if {
	is_object(spec.startupProbe)
	allowed := patience(spec.startupProbe)
	allowed < needed
	result := {
		"msg": sprintf("the startup probe kills the container after %v s; %s may take %v s", [allowed, busy, needed]),
		"field": lib.container("startupProbe"),
	}
}

deny contains result if {
	not spec.startupProbe
	is_object(spec.livenessProbe)
	allowed := patience(spec.livenessProbe)
	allowed < needed
	result := {
		"msg": sprintf("the liveness probe, without a startup probe, kills the container after %v s; %s may take %v s", [allowed, busy, needed]),
		"field": lib.container("livenessProbe"),
	}
}

deny contains result if {
	input.role == "kafka"
	asks_clients_port
	result := {"msg": "the liveness probe asks the clients' port 9092", "field": lib.container("livenessProbe")}
}

deny contains result if {
	some kind in ["startupProbe", "livenessProbe", "readinessProbe"]
	command := spec[kind].exec.command
	not command[2] == "alive" # the rendered one
	text := json.marshal(command)
	regex.match(starts_a_jvm, text)
	program := regex.find_all_string_submatch_n(starts_a_jvm, text, 1)[0][1]
	result := {"msg": sprintf("starts a JVM every %v s: %s", [object.get(spec[kind], "periodSeconds", 10), program]), "field": lib.container(kind)}
}

# A program in a command as JSON, with a path before it and .sh behind it or without. JSON has line breaks, & and > escaped.
starts_a_jvm := sprintf(`(?:[\s/;&|()'"$\x60]|\\[nt]|\\u00[0-9a-f]{2})(%s)(?:\.sh)?(?:[\s;&|()<>'"\\\x60])`, [concat("|", data.parameters.programs)])

warn contains result if {
	is_object(spec.livenessProbe)
	tolerance := failing(spec.livenessProbe)
	tolerance < data.parameters.tolerance
	result := {
		"msg": sprintf("the liveness probe kills a container that is slow for %v s", [tolerance]),
		"field": lib.container("livenessProbe"),
	}
}

patience(probe) := delay + failing(probe) if {
	delay := object.get(probe, "initialDelaySeconds", 0)
	is_number(delay)
}

# failing is for how long it must fail. What is left out is what Kubernetes fills in.
failing(probe) := times * period if {
	times := object.get(probe, "failureThreshold", 3)
	period := object.get(probe, "periodSeconds", 10)
	is_number(times)
	is_number(period)
}

asks_clients_port if {
	some handler in ["tcpSocket", "httpGet", "grpc"]
	clients_port(spec.livenessProbe[handler].port)
}

asks_clients_port if {
	some word in spec.livenessProbe.exec.command
	is_string(word)
	regex.match(`(^|[^0-9])9092([^0-9]|$)`, word)
}

clients_port(9092)

clients_port(name) if {
	some port in spec.ports
	port.name == name
	port.containerPort == 9092
}
