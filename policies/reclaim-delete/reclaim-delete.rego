# METADATA
# title: the volumes go with the set, or with its claims
# description: >-
#   With a claim retention policy of Delete, deleting the StatefulSet, or scaling it in and out again, deletes the records of its
#   brokers: a mistaken kubectl delete cannot be taken back. Where the StorageClass reclaims by deletion, the same holds for a
#   claim, or a namespace, that is deleted.
# custom:
#   code: MM331
#   severity: warn
#   profiles: {dev: "off", production: deny}
#   fix: Leave persistentVolumeClaimRetentionPolicy at Retain, and use a StorageClass with reclaimPolicy Retain, or set it on the volumes.
#   match: {roles: [kafka, zookeeper]}
package metamorph.policies.reclaim_delete

import data.metamorph.lib

deny contains result if {
	some field, msg in {
		"whenDeleted": "the volumes are deleted with the set",
		"whenScaled": "a node's volume is deleted when the set is scaled in",
	}
	input.object.spec.persistentVolumeClaimRetentionPolicy[field] == "Delete"
	result := {
		"msg": msg,
		"field": sprintf("spec.persistentVolumeClaimRetentionPolicy.%s", [field]),
	}
}

# Clouds' own classes delete, so only production hears of it. Delete is the API's default.
warn contains result if {
	input.profile == "production"
	class := lib.data_class
	object.get(class, "reclaimPolicy", "Delete") == "Delete"
	result := {
		"msg": sprintf("the StorageClass %s deletes a volume with its claim", [class.metadata.name]),
		"field": "spec.volumeClaimTemplates[data].spec.storageClassName",
	}
}
