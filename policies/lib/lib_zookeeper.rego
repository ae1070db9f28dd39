# Where broker sets keep their data in ZooKeeper: the setting zookeeper in one form, whichever way it is written.
package metamorph.lib

# zookeeper_path is the path in the ensemble. Name is that of the broker set.
zookeeper_path(value, name) := "/" if {
	value == "true"
} else := concat("", ["/", name]) if {
	not zookeeper_external(value)
} else := substring(value, at, -1) if {
	at := indexof(value, "/")
	at >= 0
} else := "/"

# zookeeper_servers are the ensemble's addresses, host:port. A Service of the same Kubernetes cluster, and every pod behind its
# headless one, is SERVICE.NAMESPACE. Namespace and name are those of the broker set.
zookeeper_servers(value, namespace, name) := {concat("", [name, "-zookeeper.", namespace, ":2181"])} if {
	value == "true"
} else := {concat("", [value, ".", namespace, ":2181"])} if {
	not zookeeper_external(value)
} else := {server |
	some address in split(split(value, "/")[0], ",")
	parts := split(lower(address), ":")
	last := count(parts) - 1
	host := concat(":", array.slice(parts, 0, last))
	server := concat("", [zookeeper_host(host, namespace), ":", parts[last]])
}

# An address has a port, and a StatefulSet's name no colon.
zookeeper_external(value) if contains(value, ":")

zookeeper_host(host, namespace) := concat(".", place) if {
	place := zookeeper_service(inside_cluster(split(host, ".")), namespace)
}

# inside_cluster leaves the cluster's domain out: SERVICE.NAMESPACE.svc.DOMAIN, POD.SERVICE.NAMESPACE.svc.DOMAIN.
inside_cluster(labels) := array.slice(labels, 0, 2) if {
	labels[2] == "svc"
} else := array.slice(labels, 0, 3) if {
	labels[3] == "svc"
} else := labels

zookeeper_service(labels, namespace) := [trim_suffix(labels[0], "-headless"), namespace] if {
	count(labels) == 1
} else := [service, namespace] if {
	count(labels) == 2
	service := behind_headless(labels)
} else := [service, labels[2]] if {
	count(labels) == 3
	service := behind_headless(labels)
} else := array.concat([trim_suffix(labels[0], "-headless")], array.slice(labels, 1, 100))

# behind_headless is the Service of a pod: events-0.events-headless is a pod of events.
behind_headless(labels) := service if {
	endswith(labels[1], "-headless")
	service := trim_suffix(labels[1], "-headless")
	startswith(labels[0], concat("", [service, "-"]))
	regex.match(`^-[0-9]+$`, substring(labels[0], count(service), -1))
}
