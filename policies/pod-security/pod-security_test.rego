package metamorph.policies.pod_security_test

import data.metamorph.policies.pod_security

# A pod that passes.
passing := {
	"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
	"initContainers": [{"name": "format", "securityContext": confined}],
	"containers": [{"name": "kafka", "securityContext": confined}],
	"volumes": [{"name": "config", "configMap": {"name": "kafka"}}, {"name": "tmp", "emptyDir": {}}],
}

confined := {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}

# changed is the pod with values at some paths (JSON Pointers).
changed(values) := json.patch(passing, [{"op": "add", "path": path, "value": value} | some path, value in values])

# view is the input for a pod.
view(pod, annotations) := {
	"role": "kafka",
	"namespace": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
	"object": {"spec": {"template": {"metadata": {"annotations": annotations}, "spec": pod}}},
	"pod": pod,
	"containers": object.union(
		{c.name: {"init": true, "spec": c} | some c in pod.initContainers},
		{c.name: {"init": false, "spec": c} | some c in pod.containers},
	),
	"volumes": {v.name: v | some v in pod.volumes},
}

# found are the findings for a pod, as a person reads them.
found(pod) := findings(pod, {})

findings(pod, annotations) := {line |
	some f in pod_security.deny with input as view(pod, annotations)
	line := sprintf("%s: %s", [trim_prefix(f.field, "spec.template."), f.msg])
}

test_passes if found(passing) == set()

test_null_is_nothing if {
	found(changed({
		"/hostPID": null,
		"/hostUsers": null,
		"/os": null,
		"/securityContext/appArmorProfile": null,
		"/securityContext/runAsUser": null,
		"/securityContext/seLinuxOptions": {"type": null, "user": null, "role": null},
		"/securityContext/sysctls": null,
		"/securityContext/windowsOptions": {"hostProcess": null},
		"/volumes/0/hostPath": null,
		"/containers/0/ports": [{"containerPort": 1, "hostPort": null}],
		"/containers/0/livenessProbe": {"tcpSocket": {"port": 1, "host": null}},
		"/containers/0/lifecycle": {"preStop": {"httpGet": {"port": 1, "host": null}}},
		"/containers/0/securityContext/privileged": null,
		"/containers/0/securityContext/procMount": null,
		"/containers/0/securityContext/runAsNonRoot": null,
		"/containers/0/securityContext/seccompProfile": null,
		"/containers/0/securityContext/capabilities/add": null,
	})) == set()
}

test_host_namespaces if {
	found(changed({"/hostNetwork": true, "/hostPID": true, "/hostIPC": true})) == {
		"spec.hostNetwork: hostNetwork: true; allowed: false",
		"spec.hostPID: hostPID: true; allowed: false",
		"spec.hostIPC: hostIPC: true; allowed: false",
	}
	found(changed({"/hostNetwork": false, "/hostPID": false, "/hostIPC": false})) == set()
}

test_host_process if {
	found(changed({
		"/securityContext/windowsOptions": {"hostProcess": true},
		"/initContainers/0/securityContext/windowsOptions": {"hostProcess": true},
	})) == {
		"spec.securityContext.windowsOptions.hostProcess: hostProcess: true; allowed: false",
		"spec.initContainers[format].securityContext.windowsOptions.hostProcess: hostProcess: true; allowed: false",
	}
}

test_privileged if {
	found(changed({"/containers/0/securityContext/privileged": true})) == {"spec.containers[kafka].securityContext.privileged: privileged: true; allowed: false"}
}

test_privilege_escalation if {
	message := "spec.containers[kafka].securityContext.allowPrivilegeEscalation: is not set to false; allowed: false"
	found(changed({"/containers/0/securityContext/allowPrivilegeEscalation": true})) == {message}
	found(changed({"/containers/0/securityContext": {"capabilities": {"drop": ["ALL"]}}})) == {message}
}

test_capabilities if {
	dropped := "spec.containers[kafka].securityContext.capabilities.drop: does not drop all; allowed: [ALL]"
	found(changed({"/containers/0/securityContext/capabilities": {"drop": ["KILL"]}})) == {dropped}
	found(changed({"/containers/0/securityContext": {"allowPrivilegeEscalation": false}})) == {dropped}
	found(changed({"/containers/0/securityContext/capabilities": {
		"drop": ["KILL", "ALL"],
		"add": ["CHOWN", "NET_BIND_SERVICE", "NET_RAW"],
	}})) == {
		"spec.containers[kafka].securityContext.capabilities.add: adds CHOWN; allowed: NET_BIND_SERVICE",
		"spec.containers[kafka].securityContext.capabilities.add: adds NET_RAW; allowed: NET_BIND_SERVICE",
	}
}

test_run_as_non_root if {
	found(changed({"/securityContext/runAsNonRoot": false})) == {"spec.securityContext.runAsNonRoot: runAsNonRoot: false; allowed: true"}
	found(changed({"/containers/0/securityContext/runAsNonRoot": false})) == {"spec.containers[kafka].securityContext.runAsNonRoot: runAsNonRoot: false; allowed: true"}
	found(changed({"/securityContext/runAsNonRoot": null, "/initContainers/0/securityContext/runAsNonRoot": true})) == {"spec.containers[kafka].securityContext.runAsNonRoot: set neither here nor for the pod; allowed: true"}
}

test_run_as_user if {
	found(changed({"/securityContext/runAsUser": 0, "/containers/0/securityContext/runAsUser": 0})) == {
		"spec.securityContext.runAsUser: runAsUser: 0, which is root; allowed: any other",
		"spec.containers[kafka].securityContext.runAsUser: runAsUser: 0, which is root; allowed: any other",
	}
	found(changed({"/securityContext/runAsUser": 1, "/containers/0/securityContext/runAsUser": 2})) == set()
}

test_user_namespace if {
	root := {
		"/hostUsers": false,
		"/securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 0, "runAsNonRoot": false},
		"/containers/0/securityContext/runAsUser": 0,
		"/containers/0/securityContext/runAsNonRoot": false,
	}
	found(changed(root)) == set()
	count(found(changed(object.union(root, {"/hostUsers": true})))) == 4

	# The masks over /proc stay.
	count(found(changed(object.union(root, {"/containers/0/securityContext/procMount": "Unmasked"})))) == 1
}

test_seccomp if {
	found(changed({
		"/securityContext/seccompProfile": {"type": "Unconfined"},
		"/initContainers/0/securityContext/seccompProfile": {"type": "Localhost", "localhostProfile": "kafka.json"},
		"/containers/0/securityContext/seccompProfile": {},
	})) == {
		"spec.securityContext.seccompProfile.type: the profile Unconfined; allowed: RuntimeDefault, Localhost",
		"spec.containers[kafka].securityContext.seccompProfile.type: the profile without a type; allowed: RuntimeDefault, Localhost",
	}
	found(changed({
		"/securityContext/seccompProfile": null,
		"/initContainers/0/securityContext/seccompProfile": {"type": "RuntimeDefault"},
	})) == {"spec.containers[kafka].securityContext.seccompProfile.type: set neither here nor for the pod; allowed: RuntimeDefault, Localhost"}
}

test_app_armor if {
	found(changed({
		"/securityContext/appArmorProfile": {"type": "Unconfined"},
		"/initContainers/0/securityContext/appArmorProfile": {"type": "Localhost"},
		"/containers/0/securityContext/appArmorProfile": {"type": "Unconfined"},
	})) == {
		"spec.securityContext.appArmorProfile.type: the profile Unconfined; allowed: none, RuntimeDefault, Localhost",
		"spec.containers[kafka].securityContext.appArmorProfile.type: the profile Unconfined; allowed: none, RuntimeDefault, Localhost",
	}
}

test_app_armor_annotation if {
	findings(passing, {
		"container.apparmor.security.beta.kubernetes.io/a": "",
		"container.apparmor.security.beta.kubernetes.io/b": "runtime/default",
		"container.apparmor.security.beta.kubernetes.io/c": "localhost/kafka",
		"container.apparmor.security.beta.kubernetes.io/d": "localhost",
		"container.apparmor.security.beta.kubernetes.io/e": 5,
		"example.org/a": "unconfined",
	}) == {"metadata.annotations[container.apparmor.security.beta.kubernetes.io/d]: the profile localhost; allowed: none, runtime/default, localhost/NAME"}
}

test_selinux if {
	found(changed({
		"/securityContext/seLinuxOptions": {"type": "spc_t", "user": "system_u", "role": "sysadm_r", "level": "s0"},
		"/initContainers/0/securityContext/seLinuxOptions": {"type": "container_engine_t", "user": "", "role": ""},
		"/containers/0/securityContext/seLinuxOptions": {"type": "spc_t"},
	})) == {
		"spec.securityContext.seLinuxOptions.type: the type spc_t; allowed: none, container_t, container_init_t, container_kvm_t, container_engine_t",
		"spec.securityContext.seLinuxOptions.user: the user system_u; allowed: none",
		"spec.securityContext.seLinuxOptions.role: the role sysadm_r; allowed: none",
		"spec.containers[kafka].securityContext.seLinuxOptions.type: the type spc_t; allowed: none, container_t, container_init_t, container_kvm_t, container_engine_t",
	}
}

test_proc_mount if {
	found(changed({
		"/initContainers/0/securityContext/procMount": "Default",
		"/containers/0/securityContext/procMount": "Unmasked",
	})) == {"spec.containers[kafka].securityContext.procMount: procMount: Unmasked; allowed: Default"}
}

test_sysctls if {
	found(changed({"/securityContext/sysctls": [
		{"name": "net.ipv4.tcp_rmem", "value": "1"},
		{"name": "vm.max_map_count", "value": "1"},
	]})) == {"spec.securityContext.sysctls: vm.max_map_count; allowed: those that Kubernetes calls safe, such as net.ipv4.tcp_keepalive_time"}
}

test_volumes if {
	allowed := "allowed: configMap, csi, downwardAPI, emptyDir, ephemeral, image, persistentVolumeClaim, projected, secret"
	found(changed({"/volumes": [
		{"name": "a", "hostPath": {"path": "/"}},
		{"name": "b", "nfs": {"server": "c", "path": "/d"}},
		{"name": "e", "ephemeral": {}},
		{"name": "f"},
	]})) == {
		"spec.volumes[a].hostPath: a folder of the host; allowed: a claim, or what ends with the pod",
		concat("", ["spec.volumes[b].nfs: the type nfs; ", allowed]),
	}
}

test_host_ports if {
	found(changed({
		"/containers/0/ports": [{"containerPort": 9092, "hostPort": 9092}, {"containerPort": 1, "hostPort": 0}],
	})) == {"spec.containers[kafka].ports: hostPort: 9092; allowed: none"}
}

test_probes_and_hooks if {
	found(changed({
		"/containers/0/livenessProbe": {"httpGet": {"port": 1, "host": "a"}, "periodSeconds": 10},
		"/containers/0/readinessProbe": {"tcpSocket": {"port": 1, "host": "b"}},
		"/containers/0/startupProbe": {"tcpSocket": {"port": 1, "host": ""}},
		"/containers/0/lifecycle": {
			"postStart": {"httpGet": {"port": 1, "host": "c"}},
			"preStop": {"exec": {"command": ["true"]}},
		},
	})) == {
		"spec.containers[kafka].livenessProbe.httpGet.host: host: a; allowed: none, which is the pod",
		"spec.containers[kafka].readinessProbe.tcpSocket.host: host: b; allowed: none, which is the pod",
		"spec.containers[kafka].lifecycle.postStart.httpGet.host: host: c; allowed: none, which is the pod",
	}
}

test_ephemeral_containers if {
	found(changed({"/ephemeralContainers": [{"name": "debug"}]})) == {"spec.ephemeralContainers: set in a template; allowed: none"}
	found(changed({"/ephemeralContainers": []})) == set()
}

test_windows if {
	pod := {
		"os": {"name": "windows"},
		"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "Unconfined"}},
		"initContainers": [],
		"containers": [{"name": "kafka", "securityContext": {"capabilities": {"add": ["CHOWN"]}}}],
	}
	found(pod) == set()
	found(json.patch(pod, [{"op": "replace", "path": "/securityContext", "value": {}}])) == {"spec.containers[kafka].securityContext.runAsNonRoot: set neither here nor for the pod; allowed: true"}
	count(found(json.patch(pod, [{"op": "replace", "path": "/os/name", "value": "linux"}]))) == 4
}
