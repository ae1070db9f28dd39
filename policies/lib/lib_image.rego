# What an image tells of the version in it.
package metamorph.lib

# node_images are those of the containers that run the role's: the server, and the step before it where that has another.
node_images[input.role] := main.image

node_images["metamorph-init"] := image if {
	image := input.containers["metamorph-init"].image
	image.reference != main.image.reference
}

# image_release is the version that an image's tag names, as [major, minor]; minor is "" where it names none. It is
# undefined for images of another name than the role's, whose tags count otherwise (confluentinc/cp-kafka:7.9.0 holds
# Kafka 3.9).
image_release(image) := [whole_number(major), minor] if {
	endswith(concat("", ["/", image.repository]), concat("", ["/", input.role]))
	some [_, major, minor] in regex.find_all_string_submatch_n(release_tag, image.tag, 1)
}

# Strimzi's tags are 1.2.0-kafka-4.3.0.
release_tag := `^(?:.*kafka-)?v?([0-9]{1,3})(?:\.([0-9]{1,3}))?(?:[.+_-].*)?$`

# image_release_line is such a version as its line is written, as 4.3; undefined without a minor.
image_release_line(image) := sprintf("%d.%s", [major, minor]) if {
	[major, minor] := image_release(image)
	minor != ""
}

# line_of_version is the line of a version, as 4.3.
line_of_version(version) := l if some l in regex.find_n(`^[0-9]+\.[0-9]+`, version, 1)

# upstream_image is the image that the projects themselves publish, with the tag of the version that the configuration is
# for. It is undefined for an image from elsewhere, where nobody knows what tags there are.
upstream_image(image) := concat(":", [upstream_names[image.registry][image.repository], setting("version")])

upstream_names := {"docker.io": {"apache/kafka": "apache/kafka", "library/zookeeper": "zookeeper"}}
