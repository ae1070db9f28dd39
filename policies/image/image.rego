# METADATA
# title: an image may not be what was tested, or comes from where it may not
# description: >-
#   Behind a tag such as latest or 4 another image may stand tomorrow. A pod that moves to another node then starts another
#   version than its peers, at night and without anybody having changed anything; and going back is not always possible
#   once it has written to the volume.
# custom:
#   code: MM310
#   severity: deny
#   fix: >-
#     Name the full version (apache/kafka:4.3.1), or a digest; and take the image from a registry that the parameters
#     permit. A tag that moves is refused in the profile production, warns elsewhere, and is nobody's business in dev.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     allowed:
#       type: array
#       items: {type: string}
#       default: []
#       description: >-
#         Where images may come from: registries, or the beginnings of repositories up to a slash (docker.io,
#         docker.io/apache, registry.example.com/kafka/broker). None: from everywhere.
#     disallowed:
#       type: array
#       items: {type: string}
#       default: []
#       description: Where images may not come from, in the same form. It counts before what is allowed.
#     mutableTags:
#       type: array
#       items: {type: string}
#       default: [latest, stable, edge, main, master, nightly, snapshot, lts]
#       description: Tags that are moved to other images. Those with a full version in them are taken to stay.
package metamorph.policies.image

import data.metamorph.lib

deny contains moved(name, what) if {
	some name, what in moving
	input.profile == "production"
}

warn contains moved(name, what) if {
	some name, what in moving
	not input.profile in ["production", "dev"]
}

deny contains {
	"msg": sprintf("%s comes from a place that is not allowed", [c.image.reference]),
	"field": lib.container_place(name, "image"),
} if {
	restricted
	some name, c in input.containers
	not permitted(c.image)
	not twin(name, c.image)
}

restricted if count(data.parameters.allowed) > 0

restricted if count(data.parameters.disallowed) > 0

# The init step's image is the main container's, unless somebody changed one of them.
twin("metamorph-init", image) if image.reference == lib.main.image.reference

# suspects have neither a full version nor a digest.
suspects := {name: image |
	some name, c in input.containers
	image := c.image
	regex.match(`@|:[^/:@]*[0-9]\.[0-9]+\.[0-9][^/:@]*$`, image.reference) == false
	not twin(name, image)
}

moving[name] := "has no tag, which means latest" if {
	some name, image in suspects
	image.repository
	not image.tag
}

moving[name] := "has a tag that is moved to other images" if {
	some name, image in suspects
	mutable(name, image.tag)
}

mutable(_, tag) if tag in data.parameters.mutableTags

# One or two numbers are a line of versions. Other people's images may count that way; ours do not.
mutable(name, tag) if {
	ours(name)
	regex.match(`^v?[0-9]{1,3}(\.[0-9]{1,3})?(-|$)`, tag)
}

ours(name) if name == input.role

ours(name) if startswith(name, "metamorph-")

moved(name, what) := object.union(cure(name), {"msg": sprintf("%s %s", [suspects[name].reference, what])})

cure(name) := {"annotation": "image", "fix": lib.upstream_image(suspects[name])} if name == input.role

cure(name) := {"annotation": "image"} if {
	name == input.role
	not lib.upstream_image(suspects[name])
}

cure(name) := {"field": lib.container_place(name, "image")} if name != input.role

permitted(image) if {
	from := sprintf("%s/%s/", [image.registry, image.repository])
	not within(from, data.parameters.disallowed)
	anywhere(from)
}

# What cannot be read as an image is not known to be allowed.
permitted(image) if {
	not image.registry
	count(data.parameters.allowed) == 0
}

anywhere(_) if count(data.parameters.allowed) == 0

anywhere(from) if within(from, data.parameters.allowed)

within(from, places) if {
	some place in places
	startswith(from, concat("", [trim_suffix(place, "/"), "/"]))
}
