# METADATA
# title: a listener is open to everybody
# description: >-
#   Whoever reaches a port without authentication may read and write every topic, delete them, and change the cluster. In
#   Kubernetes that is every pod, unless a NetworkPolicy says otherwise: one stolen web server is enough.
# custom:
#   code: MM306
#   severity: warn
#   profiles: {production: deny, dev: "off"}
#   fix: >-
#     Leave metamorph.dev/sasl out, or set it to a mechanism, and leave the listeners as they are rendered. A set that runs
#     without authentication cannot change that: create a new one. For listeners that are exposed, name a certificate in
#     metamorph.dev/tls-secret.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     tlsWhenExposed:
#       type: boolean
#       default: false
#       description: >-
#         Whether a set of the profile production needs TLS when its listeners can be reached from outside of the cluster:
#         through a port of the host, through its network, or under an address that is advertised instead of the pod's.
package metamorph.policies.plaintext

import data.metamorph.lib

deny contains object.union({"msg": "with sasl none, nobody has to prove who they are", "annotation": "sasl"}, fix) if {
	open
}

# A set keeps what it was created with.
fix := {"fix": "scram-sha-512"} if input.request.operation == "CREATE"

else := {}

# Only where it is not what the setting asks for.
deny contains {
	"msg": sprintf("the listener %s is PLAINTEXT", [listener]),
	"field": lib.property_field("listener.security.protocol.map"),
} if {
	protocols := lib.node_properties["listener.security.protocol.map"]
	contains(protocols, ":PLAINTEXT")
	not open
	some entry in split(protocols, ",")
	endswith(trim_space(entry), ":PLAINTEXT")
	listener := trim_suffix(trim_space(entry), ":PLAINTEXT")
	used(listener)
}

# The map may name more than there is; the rendered listeners are in a variable.
used(listener) if listener in {"CLIENT", "INTERNAL", "CONTROLLER"}

used(listener) if contains(lib.node_properties.listeners, concat("", [listener, "://"]))

# Encryption is for the way that others may listen on.
deny contains {"msg": sprintf("%s without TLS", [how]), "field": field} if {
	input.profile == "production"
	data.parameters.tlsWhenExposed
	not lib.setting("tls-secret")
	some [how, field] in exposed
}

open if input.settings.sasl.value == "none"

exposed contains ["the node's network is used", "spec.template.spec.hostNetwork"] if input.pod.hostNetwork == true

exposed contains [sprintf("port %v of the node is open", [port.hostPort]), lib.container("ports")] if {
	some port in lib.main.spec.ports
	port.hostPort > 0
}

exposed contains [sprintf("%s is advertised", [listener]), lib.property_field("advertised.listeners")] if {
	some listener in split(lib.node_properties["advertised.listeners"], ",")
	not contains(listener, "${env:MM_FQDN}")
}
