# METADATA
# title: a quorum has an even number of members
# description: >-
#   A quorum works as long as more than half of its members do. Two stand still as soon as either fails, which makes them
#   worse than one; four survive one failure, as three do, and have one more to fail.
# custom:
#   code: MM304
#   severity: deny
#   profiles: {dev: warn}
#   fix: "Take an odd number: 3 servers survive one failure, 5 survive two."
#   match:
#     roles: [kafka, zookeeper]
#     operations: [CREATE, UPDATE, SCALE]
package metamorph.policies.even_ensemble

import data.metamorph.lib

deny contains ensemble if ensemble.members == 2

warn contains ensemble if ensemble.members > 2

# Nobody can change a quorum that volumes were formatted with, so it is never refused.
warn contains {
	"msg": message(lib.quorum_voters, "controller"),
	"field": lib.property_field("controller.quorum.voters"),
} if {
	input.role == "kafka"
	input.request.operation != "SCALE"
	even(lib.quorum_voters)
}

ensemble := result(input.replicas, "replicas") if {
	input.role == "zookeeper"
	even(input.replicas)
}

ensemble := result(n, "zookeeper-replicas") if {
	input.role == "kafka"
	input.settings.zookeeper.value == "true"
	input.request.operation != "SCALE"
	n := lib.whole_number(lib.setting("zookeeper-replicas"))
	even(n)
}

result(n, annotation) := {
	"members": n,
	"msg": message(n, "server"),
	"annotation": annotation,
	"fix": sprintf("%d", [n + 1]),
}

even(n) if {
	n > 0
	n == floor(n)
	n % 2 == 0
}

message(n, what) := sprintf("2 %ss survive no failure", [what]) if n == 2

message(n, what) := sprintf("%d %ss survive %s, as %d do", [n, what, lib.amount_of((n / 2) - 1, "failure"), n - 1]) if n > 2
