# METADATA
# title: the data volume is on a shared file system
# description: >-
#   Kafka and ZooKeeper need a file system that is theirs alone. On NFS a deleted segment that is still open is renamed and
#   keeps its folder from going, which stops the broker, and what was acknowledged may never have reached a disk; a volume that
#   several pods can mount lets two nodes write into one log.
# custom:
#   code: MM330
#   severity: deny
#   profiles: {dev: warn}
#   fix: Use a StorageClass of block volumes (metamorph.dev/storage-class), with the access mode ReadWriteOnce or ReadWriteOncePod.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     provisioners:
#       type: array
#       minItems: 1
#       items: {type: string, pattern: '^[a-z0-9./-]+$'}
#       default: [nfs, cifs, smb, cephfs, glusterfs, juicefs, efs.csi.aws.com, fsx.csi.aws.com, fsx.openzfs, file.csi.azure.com, azure-file, filestore.csi.storage.gke.io, fss.csi.oraclecloud.com, nasplugin.csi.alibabacloud.com]
#       description: Parts of the names of provisioners, in lower case, whose volumes are shared file systems.
package metamorph.policies.shared_data_volume

import data.metamorph.lib

deny contains result if {
	some mode in input.claims.data.accessModes
	mode in {"ReadWriteMany", "ReadOnlyMany"}
	result := {
		"msg": sprintf("the data volume has the access mode %s", [mode]),
		"field": "spec.volumeClaimTemplates[data].spec.accessModes",
	}
}

deny contains result if {
	class := lib.data_class
	listed(class.provisioner)
	result := {
		"msg": sprintf("the StorageClass %s makes volumes on a shared file system (%s)", [class.metadata.name, class.provisioner]),
		"field": "spec.volumeClaimTemplates[data].spec.storageClassName",
		"annotation": "storage-class",
		"fix": concat("", [lib.default_class.metadata.name | not listed(lib.default_class.provisioner)]),
	}
}

# A volume over the data claim is refused when the set is expanded; one below it, or put there later, is not.
deny contains result if {
	some path in folders[input.role]
	name := lib.main.mounts[path]
	input.volumes[name]
	some kind in {"nfs", "cephfs", "glusterfs", "azureFile", "flexVolume", "csi"}
	source := input.volumes[name][kind]
	on_network(kind, source)
	result := {
		"msg": sprintf("the volume %s at %s is on a shared file system (%s)", [name, path, kind]),
		"field": sprintf("spec.template.spec.volumes[%s].%s", [name, kind]),
	}
}

# folders are the claim's mount, and what the node writes to below it; config cannot move it.
folders := {"kafka": ["/var/lib/kafka/data", "/var/lib/kafka/data/kafka-logs"], "zookeeper": ["/data", "/data/zookeeper"]}

on_network(kind, _) if not kind in {"flexVolume", "csi"}

on_network(_, source) if listed(source.driver)

listed(driver) if {
	is_string(driver)
	regex.match(concat("|", data.parameters.provisioners), lower(driver))
}
