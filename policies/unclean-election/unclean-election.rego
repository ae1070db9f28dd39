# METADATA
# title: a copy that lacks records may become the leader
# description: >-
#   When the copies that are in sync are gone, a broker that lagged behind takes over, and the others cut off what it does
#   not have: records that producers got acknowledged are lost without an error anywhere.
# custom:
#   code: MM314
#   severity: warn
#   profiles: {production: deny}
#   fix: Leave unclean.leader.election.enable out of metamorph.dev/config. A topic that can bear it may have it on its own.
#   match: {roles: [kafka]}
package metamorph.policies.unclean_election

import data.metamorph.lib

deny contains object.union(lib.property_cure(key, "", false), {
	"msg": sprintf("%s=true", [key]),
	"field": lib.property_field(key),
}) if {
	lib.property_enabled(key)
}

key := "unclean.leader.election.enable"
