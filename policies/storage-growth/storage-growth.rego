# METADATA
# title: the volumes cannot grow
# description: >-
#   A StorageClass without allowVolumeExpansion makes volumes of one size for ever. When a log fills them, the broker stops, and the
#   only way to more room is a new set and the move of all data to it.
# custom:
#   code: MM323
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Set allowVolumeExpansion: true on the StorageClass, if its driver can grow volumes, before anybody needs it. Where it cannot,
#     create a set with larger volumes and let Kafka replicate to it.
#   match: {roles: [kafka, zookeeper]}
package metamorph.policies.storage_growth

import data.metamorph.lib

deny contains result if {
	input.request.operation == "UPDATE"
	was := lib.old_setting("storage")
	wanted := lib.setting("storage")
	wanted != was
	lib.resource_quantity(wanted) > lib.resource_quantity(was)
	not grows
	result := {
		"msg": sprintf("storage rises from %s to %s, and the StorageClass %s has no allowVolumeExpansion", [was, wanted, lib.data_class.metadata.name]),
		"annotation": "storage",
		"fix": was,
	}
}

warn contains result if {
	input.profile == "production"
	input.request.operation == "CREATE"
	not grows
	result := {
		"msg": sprintf("the StorageClass %s has no allowVolumeExpansion: the volumes keep their %s", [lib.data_class.metadata.name, lib.setting("storage")]),
		"field": "spec.volumeClaimTemplates[data].spec.storageClassName",
	}
}

grows if lib.data_class.allowVolumeExpansion == true
