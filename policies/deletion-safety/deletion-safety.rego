# METADATA
# title: the deletion takes the records along
# description: >-
#   The set's volumes are deleted with it, as its persistentVolumeClaimRetentionPolicy says. There is no way back: not by applying
#   the manifest again, and not by the Secret, which stays.
# custom:
#   code: MM345
#   severity: warn
#   profiles: {dev: "off", production: deny}
#   fix: Set spec.persistentVolumeClaimRetentionPolicy.whenDeleted to Retain before the deletion; the claims can be deleted by hand after it.
#   match: {roles: [kafka, zookeeper], operations: [DELETE]}
package metamorph.policies.deletion_safety

deny contains result if {
	input.object.spec.persistentVolumeClaimRetentionPolicy.whenDeleted == "Delete"

	# The deletion of a namespace, or of an owner, has been decided elsewhere.
	not startswith(input.request.user.name, "system:serviceaccount:kube-system:")
	result := {
		"msg": sprintf("the volumes of %v nodes are deleted with the set", [input.replicas]),
		"field": "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
	}
}
