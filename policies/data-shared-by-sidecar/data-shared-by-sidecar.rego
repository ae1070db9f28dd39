# METADATA
# title: something else can write to the nodes' data
# description: >-
#   A broker and a server take their folder for theirs alone: a file that changes or goes under them stops them, or is found as
#   lost records later; and what another container leaves on the volume fills it. A claim of another set's, mounted here, puts two
#   writers on one volume, and keeps that set's pod from moving.
# custom:
#   code: MM344
#   severity: warn
#   profiles: {dev: "off"}
#   fix: Mount the volume data with readOnly, or give the container a volume of its own.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     containers:
#       type: array
#       items: {type: string}
#       default: []
#       description: Names of containers that may write to the data volume, a restore job's for instance.
package metamorph.policies.data_shared_by_sidecar

import data.metamorph.lib

deny contains result if {
	some name, container in input.containers
	not name in lib.rendered_containers
	some mount in container.spec.volumeMounts
	mount.name == "data"
	not mount.readOnly
	not name in data.parameters.containers
	result := {
		"msg": sprintf("the container %s can write to the data volume", [name]),
		"field": lib.container_place(name, "volumeMounts"),
	}
}

deny contains result if {
	some name, volume in input.volumes
	claim := volume.persistentVolumeClaim.claimName
	is_string(claim)
	regex.match(`^data-.+-[0-9]+$`, claim)
	result := {
		"msg": sprintf("the volume %s is the claim %s, which looks like another set's data", [name, claim]),
		"field": sprintf("spec.template.spec.volumes[%s].persistentVolumeClaim", [name]),
	}
}
