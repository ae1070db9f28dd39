# METADATA
# title: the certificate lacks the names of the nodes
# description: >-
#   Nodes and clients check that the certificate names the host they called. Controllers and ZooKeeper servers call each other by
#   the short name POD.NAME-headless, brokers and clients by POD.NAME-headless.NAMESPACE.svc: without these names the quorum never
#   forms, or clients are turned away after their first connection. A wildcard stands for one label only.
# custom:
#   code: MM336
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Issue the certificate for *.NAME-headless, *.NAME-headless.NAMESPACE.svc and NAME.NAMESPACE.svc; of a ZooKeeper set for
#     *.NAME-headless and NAME.
#   match: {roles: [kafka, zookeeper], operations: [CREATE, UPDATE, SCALE]}
package metamorph.policies.certificate_names

import data.metamorph.lib

deny contains result if {
	lib.certificate
	some names in peers
	missing := [name | some name in names; not covered(name)]
	result := finding(missing[0])
}

# Whoever has another way in needs no such name.
warn contains result if {
	lib.certificate
	name := {"kafka": sprintf("%s.%s.svc", [set, input.namespace.name]), "zookeeper": set}[input.role]
	not covered(name)
	result := finding(name)
}

finding(name) := {
	"msg": sprintf("the certificate in the Secret %s does not name %s", [lib.setting("tls-secret"), name]),
	"field": "metadata.annotations[metamorph.dev/tls-secret]",
}

set := input.request.name

# peers are the names that nodes call each other by, form by form.
peers contains [sprintf("%s-%d.%s-headless.%s.svc", [set, i, set, input.namespace.name]) | some i in ordinals(input.replicas)] if input.role == "kafka"

peers contains [sprintf("%s-%d.%s-headless", [set, i, set]) | some i in ordinals(quorum)]

quorum := to_number(lib.setting("controllers")) if regex.match(`^[0-9]+$`, lib.setting("controllers"))

# A server alone calls nobody.
quorum := input.replicas if {
	input.role == "zookeeper"
	input.replicas > 1
}

# ordinals are those of n nodes. Names of a hundred are enough: nobody writes out more.
ordinals(n) := numbers.range(0, min([floor(n), 100]) - 1) if n >= 1

# As Java matches names: a * stands for no dot.
covered(name) if {
	some pattern in lib.certificate.dnsNames
	regex.match(`^[A-Za-z0-9*._-]+$`, pattern)
	glob.match(lower(pattern), ["."], name)
}
