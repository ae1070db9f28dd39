# METADATA
# title: the data directory does not outlive the pod
# description: >-
#   What stands on the pod's own storage is gone when the pod moves to another node, for a drain or a failure. A broker
#   then copies everything from its peers, or has lost it; and controllers or ZooKeeper servers that come back empty can
#   elect a leader that knows nothing of what was committed.
# custom:
#   code: MM308
#   severity: deny
#   profiles: {dev: warn}
#   fix: Leave the data directory on the claim named data, and mount nothing below it.
#   match: {roles: [kafka, zookeeper]}
package metamorph.policies.ephemeral_data

import data.metamorph.lib

deny contains {
	"msg": sprintf("%s is on %s", [dir, kinds[kind]]),
	"field": sprintf("spec.template.spec.volumes[%s]", [name]),
} if {
	some dir, mount in mounted
	name := lib.main.mounts[mount]

	# The volume of a claim template takes the place of a pod's volume of the same name.
	not input.claims[name]
	volume := input.volumes[name]
	some kind in object.keys(kinds)
	is_object(volume[kind])
}

deny contains {"msg": sprintf("%s is on no volume", [dir]), "field": lib.container("volumeMounts")} if {
	lib.main
	some dir in dirs
	not mounted[dir]
}

kinds := {
	"emptyDir": "an emptyDir, which is emptied with the pod",
	"hostPath": "a folder of the node, which stays behind when the pod moves",
	"ephemeral": "an ephemeral volume, which is deleted with the pod",
}

# dirs are those that the node writes records or metadata to; the role's own where the configuration says nothing.
# One that is in a variable is not known here.
dirs := {trim_space(dir) |
	some text in texts
	some dir in split(text, ",")
	contains(dir, "$") == false
} if {
	count(texts) > 0
} else := {homes[input.role]}

texts := [text | some key in keys[input.role]; text := lib.node_properties[key]]

keys := {
	"kafka": ["log.dirs", "log.dir", "metadata.log.dir"],
	"zookeeper": ["dataDir", "dataLogDir"],
}

homes := {"kafka": "/var/lib/kafka/data", "zookeeper": "/data"}

# mounted are the mounts that they are below. Of several, one inside another, the innermost counts, which is the last in
# order.
mounted := {dir: max(around) |
	some dir in dirs
	inside := concat("", [dir, "/"])
	around := [path |
		some path, _ in lib.main.mounts
		startswith(inside, path)
		startswith(inside, concat("", [path, "/"]))
	]
	count(around) > 0
}
