# METADATA
# title: topics are created by whoever mentions them
# description: >-
#   A misspelt name in a producer or a consumer becomes a topic, with the default number of partitions, and the records go
#   where nobody reads them. A topic that is deleted while somebody still uses it comes back at once, empty.
# custom:
#   code: MM313
#   severity: warn
#   profiles: {production: deny}
#   fix: Leave auto.create.topics.enable out of metamorph.dev/config, and create topics on purpose.
#   match: {roles: [kafka]}
package metamorph.policies.auto_create_topics

import data.metamorph.lib

deny contains object.union(lib.property_cure(key, "", false), {
	"msg": sprintf("%s=true", [key]),
	"field": lib.property_field(key),
}) if {
	lib.property_enabled(key)
}

key := "auto.create.topics.enable"
