# METADATA
# title: the pods ask for more than the Pod Security Standard allows
# description: >-
#   Somebody who takes over the process may do whatever its container may. As root, with capabilities, in a namespace of
#   the host or with a folder of it, that is soon the node and every other pod on it. Where a namespace enforces the
#   standard, the API server stores such a StatefulSet all the same and refuses its pods, so that none ever appears.
# custom:
#   code: MM341
#   severity: deny
#   fix: >-
#     Leave out what the messages name. What the standard wants to be said goes into the pod's securityContext
#     (runAsNonRoot: true, seccompProfile.type: RuntimeDefault) and into that of every container
#     (allowPrivilegeEscalation: false, capabilities.drop: [ALL]). If the image runs as root, set runAsUser to another
#     user and fsGroup to a group, so that it may still write to its volumes.
#   match:
#     roles: [kafka, zookeeper]
#   parameters:
#     level:
#       type: string
#       enum: [baseline, restricted]
#       default: baseline
#       description: >-
#         The level of the standard that is held everywhere. Where a namespace enforces restricted itself, by the label
#         pod-security.kubernetes.io/enforce, that level is held in any case.
package metamorph.policies.pod_security

# This is the standard's newest version, that of Kubernetes 1.37; a test holds it against Kubernetes's own evaluator.
#
# How it is written: null is as good as nothing, and no type that a field may have makes a comparison fail. Behind "not"
# stands a comparison with ==, a plain path, or a function of variables; in "not input.a in b", a missing input.a would
# make the rule undefined, and the pod pass. The pod and its containers have rules of their own, because OPA's index looks
# at paths without variables before it evaluates a rule.

# What only the level restricted forbids denies where that is wanted, or where the pods would be refused without it: a sidecar
# as most people write it is no fault of its own.
deny contains finding if {
	strict
	some finding in restricted
}

strict if data.parameters.level == "restricted"

strict if input.namespace.labels["pod-security.kubernetes.io/enforce"] == "restricted"

# The host's namespaces.

deny contains in_pod("hostNetwork", "hostNetwork: true; allowed: false") if input.pod.hostNetwork == true

deny contains in_pod("hostPID", "hostPID: true; allowed: false") if input.pod.hostPID == true

deny contains in_pod("hostIPC", "hostIPC: true; allowed: false") if input.pod.hostIPC == true

# Privileges.

host_process := "hostProcess: true; allowed: false"

deny contains in_pod("securityContext.windowsOptions.hostProcess", host_process) if {
	input.pod.securityContext.windowsOptions.hostProcess == true
}

deny contains in_container(name, "securityContext.windowsOptions.hostProcess", host_process) if {
	some name
	input.containers[name].spec.securityContext.windowsOptions.hostProcess == true
}

deny contains in_container(name, "securityContext.privileged", "privileged: true; allowed: false") if {
	some name
	input.containers[name].spec.securityContext.privileged == true
}

restricted contains in_container(name, "securityContext.allowPrivilegeEscalation", "is not set to false; allowed: false") if {
	some name
	container := input.containers[name]
	not container.spec.securityContext.allowPrivilegeEscalation == false
	not windows
}

restricted contains in_container(name, "securityContext.capabilities.drop", "does not drop all; allowed: [ALL]") if {
	some name
	container := input.containers[name]
	not container.spec.securityContext.capabilities.drop[0] == "ALL" # it is alone in most pods
	not drops_all(name)
	not windows
}

drops_all(name) if "ALL" in input.containers[name].spec.securityContext.capabilities.drop

restricted contains in_container(name, "securityContext.capabilities.add", msg) if {
	some name
	capability := input.containers[name].spec.securityContext.capabilities.add[_]
	capability in baseline_capabilities
	capability != "NET_BIND_SERVICE"
	not windows
	msg := sprintf("adds %v; allowed: NET_BIND_SERVICE", [capability])
}

deny contains in_container(name, "securityContext.capabilities.add", msg) if {
	some name
	capability := input.containers[name].spec.securityContext.capabilities.add[_]
	not capability in baseline_capabilities
	not windows
	msg := sprintf("adds %v; allowed: NET_BIND_SERVICE", [capability])
}

# Those that container runtimes give without being asked.
baseline_capabilities := {
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
	"SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

# Users.

restricted contains in_pod("securityContext.runAsNonRoot", "runAsNonRoot: false; allowed: true") if {
	input.pod.securityContext.runAsNonRoot == false
	not own_users
}

restricted contains in_container(name, "securityContext.runAsNonRoot", "runAsNonRoot: false; allowed: true") if {
	some name
	input.containers[name].spec.securityContext.runAsNonRoot == false
	not own_users
}

restricted contains in_container(name, "securityContext.runAsNonRoot", "set neither here nor for the pod; allowed: true") if {
	not input.pod.securityContext.runAsNonRoot == true
	not input.pod.securityContext.runAsNonRoot == false
	not own_users
	some name
	container := input.containers[name]
	not container.spec.securityContext.runAsNonRoot == true
	not container.spec.securityContext.runAsNonRoot == false
}

restricted contains in_pod("securityContext.runAsUser", "runAsUser: 0, which is root; allowed: any other") if {
	input.pod.securityContext.runAsUser == 0
	not own_users
}

restricted contains in_container(name, "securityContext.runAsUser", "runAsUser: 0, which is root; allowed: any other") if {
	some name
	input.containers[name].spec.securityContext.runAsUser == 0
	not own_users
}

# What confines a process: seccomp, AppArmor, SELinux, the masks over /proc.

deny contains in_pod("securityContext.seccompProfile.type", seccomp(profile)) if {
	profile := input.pod.securityContext.seccompProfile
	not profile.type == "RuntimeDefault"
	not profile.type == "Localhost"
	profile != null
	not windows
}

deny contains in_container(name, "securityContext.seccompProfile.type", seccomp(profile)) if {
	some name
	profile := input.containers[name].spec.securityContext.seccompProfile
	not profile.type == "RuntimeDefault"
	not profile.type == "Localhost"
	profile != null
	not windows
}

restricted contains in_container(name, "securityContext.seccompProfile.type", msg) if {
	not input.pod.securityContext.seccompProfile.type
	not windows
	some name
	container := input.containers[name]
	not container.spec.securityContext.seccompProfile.type
	msg := "set neither here nor for the pod; allowed: RuntimeDefault, Localhost"
}

deny contains in_pod("securityContext.appArmorProfile.type", app_armor(profile)) if {
	profile := input.pod.securityContext.appArmorProfile
	not profile.type == "RuntimeDefault"
	not profile.type == "Localhost"
	profile != null
}

deny contains in_container(name, "securityContext.appArmorProfile.type", app_armor(profile)) if {
	some name
	profile := input.containers[name].spec.securityContext.appArmorProfile
	not profile.type == "RuntimeDefault"
	not profile.type == "Localhost"
	profile != null
}

seccomp(profile) := sprintf("the profile %v; allowed: RuntimeDefault, Localhost", [type_of(profile)])

app_armor(profile) := sprintf("the profile %v; allowed: none, RuntimeDefault, Localhost", [type_of(profile)])

type_of(profile) := profile.type if is_string(profile.type)

else := "without a type"

deny contains {"field": sprintf("spec.template.metadata.annotations[%s]", [key]), "msg": msg} if {
	profile := input.object.spec.template.metadata.annotations[key]
	is_string(key)
	startswith(key, "container.apparmor.security.beta.kubernetes.io/")
	not profile in {"", "runtime/default"}
	is_string(profile)
	not startswith(profile, "localhost/")
	msg := sprintf("the profile %s; allowed: none, runtime/default, localhost/NAME", [profile])
}

deny contains in_pod(path, msg) if some path, msg in selinux(input.pod.securityContext.seLinuxOptions)

deny contains in_container(name, path, msg) if {
	some name
	some path, msg in selinux(input.containers[name].spec.securityContext.seLinuxOptions)
}

selinux(options) := {path: msg |
	some option, allowed in {
		"type": ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"],
		"user": [],
		"role": [],
	}
	value := options[option]
	not value in {"", null}
	not value in allowed
	path := concat(".", ["securityContext.seLinuxOptions", option])
	msg := sprintf("the %s %v; allowed: %s", [option, value, concat(", ", array.concat(["none"], allowed))])
}

deny contains in_container(name, "securityContext.procMount", sprintf("procMount: %v; allowed: Default", [mount])) if {
	some name
	mount := input.containers[name].spec.securityContext.procMount
	not mount in {"Default", null}
}

# Settings of the kernel, other than those that end at the pod.

deny contains in_pod("securityContext.sysctls", msg) if {
	sysctl := input.pod.securityContext.sysctls[_].name
	not sysctl in sysctls
	msg := sprintf("%v; allowed: those that Kubernetes calls safe, such as net.ipv4.tcp_keepalive_time", [sysctl])
}

sysctls := {
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_rmem", "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_syncookies",
	"net.ipv4.tcp_wmem",
}

# Volumes: no folder of the host, and no storage that was not granted by a claim.

deny contains in_pod(sprintf("volumes[%s].hostPath", [name]), "a folder of the host; allowed: a claim, or what ends with the pod") if {
	some name
	input.volumes[name].hostPath != null
}

restricted contains in_pod(path, msg) if {
	source := input.volumes[name][type]
	not type in {
		"name", "hostPath",
		"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
	}
	source != null
	path := sprintf("volumes[%s].%s", [name, type])
	allowed := "configMap, csi, downwardAPI, emptyDir, ephemeral, image, persistentVolumeClaim, projected, secret"
	msg := sprintf("the type %s; allowed: %s", [type, allowed])
}

# The node's network: its ports, and requests that its kubelet sends for a probe or a hook.

deny contains in_container(name, "ports", sprintf("hostPort: %v; allowed: none", [port])) if {
	some name
	port := input.containers[name].spec.ports[_].hostPort
	not port in {0, null}
}

deny contains in_container(name, path, sprintf("host: %v; allowed: none, which is the pod", [host])) if {
	some name
	container := input.containers[name].spec
	probe := ["livenessProbe", "readinessProbe", "startupProbe"][_]
	handlers := container[probe]
	handler := ["httpGet", "tcpSocket"][_]
	host := handlers[handler].host
	not host in {"", null}
	path := sprintf("%s.%v.host", [probe, handler])
}

deny contains in_container(name, path, sprintf("host: %v; allowed: none, which is the pod", [host])) if {
	some name
	host := input.containers[name].spec.lifecycle[hook][handler].host
	not host in {"", null}
	path := sprintf("lifecycle.%v.%v.host", [hook, handler])
}

# The API server refuses these in a template, so there is nothing about them to compare.
deny contains in_pod("ephemeralContainers", "set in a template; allowed: none") if input.pod.ephemeralContainers[_]

# A pod for Windows. The API server refuses in it what is for Linux.
windows if input.pod.os.name == "windows"

# A pod with users of its own: its root is nobody to the node.
own_users if input.pod.hostUsers == false

in_pod(path, msg) := {"field": concat(".", ["spec.template.spec", path]), "msg": msg}

in_container(name, path, msg) := {"field": sprintf("spec.template.spec.%s[%s].%s", [list, name, path]), "msg": msg} if {
	list := {true: "initContainers", false: "containers"}[input.containers[name].init]
}
