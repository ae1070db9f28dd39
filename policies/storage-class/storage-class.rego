# METADATA
# title: nobody makes the volumes
# description: >-
#   Without the class that a claim asks for, or without a default class where it asks for none, the claims stay Pending and no
#   pod ever starts. A StatefulSet's claim templates cannot be changed, so the set must be deleted and made again.
# custom:
#   code: MM322
#   severity: warn
#   profiles: {production: deny}
#   fix: >-
#     Name one of the cluster's classes in metamorph.dev/storage-class. Where an administrator provides the volumes by hand for a
#     class that is only a name, switch this policy off.
#   match: {roles: [kafka, zookeeper], operations: [CREATE]}
package metamorph.policies.storage_class

# It does not deny outside production, because volumes can be provided by hand for a class that does not exist as an object.

field(name) := sprintf("spec.volumeClaimTemplates[%s].spec.storageClassName", [name])

deny contains object.union(cure(name), result) if {
	classes := data.cluster.StorageClass
	some name, claim in input.claims
	claim.storageClass != ""
	not classes[claim.storageClass]
	not by_hand(name)
	result := {"msg": sprintf("there is no StorageClass %s", [claim.storageClass]), "field": field(name)}
}

deny contains object.union(cure(name), result) if {
	data.cluster.StorageClass
	some name, claim in input.claims
	not claim.storageClass
	not default_class
	not by_hand(name)
	result := {"msg": "no StorageClass is named, and the cluster has no default one", "field": field(name)}
}

default_class if {
	some class in data.cluster.StorageClass
	some key in ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
	class.metadata.annotations[key] == "true"
}

# by_hand tells whether a claim looks for volumes that somebody made, and not for a class that makes them.
by_hand(name) if {
	some template in input.object.spec.volumeClaimTemplates
	template.metadata.name == name
	some key in ["selector", "volumeName"]
	template.spec[key]
}

cure(name) := {} if name != "data"

cure("data") := {"annotation": "storage-class"} if count(suitable) != 1

cure("data") := {"annotation": "storage-class", "fix": name} if {
	count(suitable) == 1
	some name in suitable
}

# suitable are the classes whose volumes a log can live on: file systems in the network are none.
suitable contains name if {
	some name, class in data.cluster.StorageClass
	not shared(class)
}

shared(class) if {
	is_string(class.provisioner)
	regex.match(`(?i)nfs|efs\.csi|filestore|file\.csi|azure-file|cephfs|gluster|smb`, class.provisioner)
}
