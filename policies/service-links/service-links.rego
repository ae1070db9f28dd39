# METADATA
# title: the pods get an environment variable for every Service
# description: >-
#   Kubernetes then sets variables such as KAFKA_PORT or JMX_PORT, named after the namespace's Services, to addresses. Start
#   scripts and images take them for their own settings, and the broker does not start any more, on the day that somebody
#   creates a Service of such a name. In a namespace with very many Services no process starts at all.
# custom:
#   code: MM318
#   severity: warn
#   profiles: {production: deny}
#   fix: Set spec.template.spec.enableServiceLinks to false, as Metamorph does.
#   match: {roles: [kafka, zookeeper]}
package metamorph.policies.service_links

# Absent means true: the API server fills it in for the pods, and not in their template.
deny contains {"msg": "enableServiceLinks is not false", "field": "spec.template.spec.enableServiceLinks"} if {
	not input.pod.enableServiceLinks == false
}
