# What policies about the surroundings of a set share: containers by place, classes, certificates, quantities, versions.
package metamorph.lib

# container_place is a field of any container, as Kubernetes writes it.
container_place(name, field) := sprintf("spec.template.spec.%s[%s].%s", [container_list[input.containers[name].init], name, field])

container_list := {true: "initContainers", false: "containers"}

# rendered_containers are those that Metamorph renders: the main one, and the steps before it.
rendered_containers := {input.role, "metamorph-init", "metamorph-metrics"}

# data_class is the StorageClass of the data volume; undefined where nobody looks at classes, or nobody can tell which it is.
data_class := data.cluster.StorageClass[input.claims.data.storageClass]

data_class := default_class if not input.claims.data.storageClass

# default_class is the cluster's, if it has one and no more.
default_class := classes[0] if {
	classes := [class |
		some class in data.cluster.StorageClass
		class.metadata.annotations["storageclass.kubernetes.io/is-default-class"] == "true"
	]
	count(classes) == 1
}

# certificate is what is known of the set's; undefined without TLS, and where nobody looks at Secrets.
certificate := data.cluster.Certificate[input.namespace.name][setting("tls-secret")]

# resource_quantity is a Kubernetes quantity as a number: bytes, cores. It is undefined for the forms that nobody writes by hand.
resource_quantity(value) := value if is_number(value)

resource_quantity(text) := units.parse(text) if {
	is_string(text)
	regex.match(`^[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?)?$`, text)
}

# three_numbers is a version as a list of three numbers, which compare as versions do.
three_numbers(text) := [to_number(n) | some n in split(text, ".")] if {
	is_string(text)
	regex.match(`^[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$`, text)
}

# tag_version is the version in an image's tag: 4.3.1 of apache/kafka:4.3.1-rc1. It is undefined where the tag is none.
tag_version(image) := found[0][1] if {
	found := regex.find_all_string_submatch_n(`:v?([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})(?:-[^/@]*)?(?:@.*)?$`, image, 1)
}
