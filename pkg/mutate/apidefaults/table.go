package apidefaults

// The constructors below name the ways in which the API server treats a field, so that the table reads as a
// description of them.

// value is a field that the server's type holds as a plain value: missing, null, "" and 0 are the same to it.
func value(name string, def any) *node {
	return &node{name: name, def: def, fill: true, zeroIsUnset: true}
}

// pointer is a field in which only a missing or null value gets the default; "" and 0 are values of their own.
func pointer(name string, def any) *node {
	return &node{name: name, def: def, fill: true}
}

// zero is a plain value without a default. What it holds when nobody writes it (def) is left out of some objects and
// shown in others.
func zero(name string, def any) *node {
	return &node{name: name, def: def}
}

// constant is a field that the server overwrites.
func constant(name string, def any) *node {
	return &node{name: name, def: def, fill: true, overwrites: true}
}

// derived is a plain value whose default follows from the fields beside it.
func derived(name string, from func(beside object) any) *node {
	return &node{name: name, derive: from, fill: true, zeroIsUnset: true}
}

// distinct is a field without a default in which "" is not the same as nothing.
func distinct(name string) *node {
	return &node{name: name, meaningful: true}
}

// optional is an object that gets its defaults only where somebody wrote it, and whose absence means the same as {}.
func optional(name string, fields ...*node) *node {
	return structureOf(&node{name: name, kind: structure}, fields)
}

// always is an object that the server creates.
func always(name string, fields ...*node) *node {
	return structureOf(&node{name: name, kind: structure, always: true}, fields)
}

// choice is an object that is chosen by being there, even when it is empty: a volume source, a probe, a selector.
func choice(name string, fields ...*node) *node {
	return structureOf(&node{name: name, kind: structure, meaningful: true}, fields)
}

func listOf(name string, fields ...*node) *node {
	return &node{name: name, kind: list, elem: structureOf(&node{kind: structure, meaningful: true}, fields)}
}

func free(name string) *node {
	return &node{name: name, kind: freeForm}
}

func amount(name string) *node {
	return &node{name: name, kind: quantity}
}

func amounts(name string) *node {
	return &node{name: name, kind: quantities}
}

func structureOf(n *node, fields []*node) *node {
	n.fields = fields
	n.byName = make(map[string]*node, len(fields))
	for _, f := range fields {
		if n.byName[f.name] != nil {
			panic("apidefaults: " + n.name + "." + f.name + " is in the table twice")
		}
		n.byName[f.name] = f
	}
	return n
}

// statefulSet is the table: an apps/v1 StatefulSet as Kubernetes 1.37 defaults it (pkg/apis/apps/v1/defaults.go and
// pkg/apis/core/v1/defaults.go there, and the +default markers of the types).
var statefulSet = optional("",
	optional("metadata", free("labels"), free("annotations")),
	always("spec",
		pointer("replicas", int64(1)),
		labelSelector(optional, "selector"),
		value("podManagementPolicy", "OrderedReady"),
		optional("ordinals", zero("start", int64(0))),
		pointer("revisionHistoryLimit", int64(10)),
		zero("minReadySeconds", int64(0)),
		updateStrategy(),
		always("persistentVolumeClaimRetentionPolicy",
			value("whenDeleted", "Retain"),
			value("whenScaled", "Retain"),
		),
		always("template",
			optional("metadata", free("labels"), free("annotations")),
			always("spec", podSpec()...),
		),
		listOf("volumeClaimTemplates",
			constant("apiVersion", "v1"),
			constant("kind", "PersistentVolumeClaim"),
			optional("metadata", free("labels"), free("annotations")),
			always("spec", claimSpec()...),
			always("status",
				value("phase", "Pending"),
				amounts("capacity"),
				amounts("allocatedResources"),
				free("allocatedResourceStatuses"),
			),
		),
	),
	optional("status",
		zero("observedGeneration", int64(0)),
		zero("replicas", int64(0)),
		zero("readyReplicas", int64(0)),
		zero("currentReplicas", int64(0)),
		zero("updatedReplicas", int64(0)),
		zero("availableReplicas", int64(0)),
	),
)

// updateStrategy: with a type but without rollingUpdate the server leaves it so, which means the same.
func updateStrategy() *node {
	rolling := optional("rollingUpdate",
		pointer("partition", int64(0)),
		pointer("maxUnavailable", int64(1)), // from Kubernetes 1.37 on; before, absent means 1
	)
	rolling.derive = func(beside object) any {
		if t := beside["type"]; t == nil || t == "" {
			return object{}
		}
		return nil
	}
	rolling.fill = true
	rolling.when = func(beside object) bool {
		t := beside["type"]
		return t == nil || t == "" || t == "RollingUpdate"
	}
	return always("updateStrategy", rolling, value("type", "RollingUpdate"))
}

func podSpec() []*node {
	// serviceAccount is the deprecated name of serviceAccountName; the server keeps the two equal.
	serviceAccountName := derived("serviceAccountName", sameAs("serviceAccount"))
	serviceAccountName.original = true
	serviceAccount := derived("serviceAccount", sameAs("serviceAccountName"))
	serviceAccount.overwrites = true

	return []*node{
		value("dnsPolicy", "ClusterFirst"),
		value("restartPolicy", "Always"),
		value("schedulerName", "default-scheduler"),
		pointer("terminationGracePeriodSeconds", int64(30)),
		always("securityContext", identity()...),
		serviceAccountName,
		serviceAccount,
		zero("hostNetwork", false),
		zero("hostPID", false),
		zero("hostIPC", false),
		free("nodeSelector"),
		amounts("overhead"),
		resources(),
		optional("dnsConfig"),
		optional("affinity",
			optional("nodeAffinity",
				choice("requiredDuringSchedulingIgnoredDuringExecution"),
				listOf("preferredDuringSchedulingIgnoredDuringExecution", optional("preference")),
			),
			podAffinity("podAffinity"),
			podAffinity("podAntiAffinity"),
		),
		listOf("topologySpreadConstraints", labelSelector(choice, "labelSelector")),
		listOf("volumes", volume()...),
		listOf("containers", container()...),
		listOf("initContainers", container()...),
		listOf("ephemeralContainers", container()...),
	}
}

func sameAs(field string) func(beside object) any {
	return func(beside object) any {
		if s, _ := beside[field].(string); s != "" {
			return s
		}
		return nil
	}
}

func podAffinity(name string) *node {
	term := func() []*node {
		return []*node{labelSelector(choice, "labelSelector"), labelSelector(choice, "namespaceSelector")}
	}
	return optional(name,
		listOf("requiredDuringSchedulingIgnoredDuringExecution", term()...),
		listOf("preferredDuringSchedulingIgnoredDuringExecution", optional("podAffinityTerm", term()...)),
	)
}

// labelSelector is a choice where {} selects everything and absence nothing.
func labelSelector(as func(string, ...*node) *node, name string) *node {
	return as(name, free("matchLabels"))
}

// identity is what the security contexts of a pod and of a container have in common.
func identity() []*node {
	return []*node{
		optional("seLinuxOptions"),
		optional("windowsOptions"),
		optional("seccompProfile"),
		optional("appArmorProfile"),
	}
}

func resources() *node {
	return optional("resources", amounts("limits"), amounts("requests"))
}

func container() []*node {
	return []*node{
		derived("imagePullPolicy", pullPolicyOf("image")),
		value("terminationMessagePath", "/dev/termination-log"),
		value("terminationMessagePolicy", "File"),
		zero("stdin", false),
		zero("stdinOnce", false),
		zero("tty", false),
		resources(),
		optional("securityContext", append(identity(), optional("capabilities"))...),
		listOf("ports", value("protocol", "TCP"), zero("hostPort", int64(0))),
		listOf("env", choice("valueFrom",
			fieldRef(),
			resourceFieldRef(),
			choice("fileKeyRef", pointer("optional", false)),
		)),
		listOf("volumeMounts", zero("readOnly", false)),
		probe("livenessProbe"),
		probe("readinessProbe"),
		probe("startupProbe"),
		optional("lifecycle",
			choice("postStart", append(handlers(), sleep())...),
			choice("preStop", append(handlers(), sleep())...),
		),
	}
}

func probe(name string) *node {
	return choice(name, append(handlers(),
		choice("grpc", pointer("service", "")),
		value("timeoutSeconds", int64(1)),
		value("periodSeconds", int64(10)),
		value("successThreshold", int64(1)),
		value("failureThreshold", int64(3)),
		zero("initialDelaySeconds", int64(0)),
	)...)
}

// handlers are what probes and lifecycle hooks have in common.
func handlers() []*node {
	return []*node{
		choice("exec"),
		choice("httpGet", value("path", "/"), value("scheme", "HTTP")),
		choice("tcpSocket"),
	}
}

func sleep() *node {
	return choice("sleep", zero("seconds", int64(0)))
}

func fieldRef() *node {
	return choice("fieldRef", value("apiVersion", "v1"))
}

// resourceFieldRef: the divisor is no default of the server, but its type always shows one.
func resourceFieldRef() *node {
	divisor := value("divisor", "0")
	divisor.kind = quantity
	return choice("resourceFieldRef", divisor)
}

func downwardItems() *node {
	return listOf("items", fieldRef(), resourceFieldRef())
}

// Decimal for the octal 0644.
const defaultMode = int64(0o644)

func volume() []*node {
	emptyDir := choice("emptyDir", amount("sizeLimit"))
	emptyDir.derive = emptyDirIfNothingElse
	emptyDir.fill = true

	return []*node{
		emptyDir,
		choice("hostPath", pointer("type", "")),
		choice("secret", pointer("defaultMode", defaultMode)),
		choice("configMap", pointer("defaultMode", defaultMode)),
		choice("downwardAPI", pointer("defaultMode", defaultMode), downwardItems()),
		choice("projected",
			pointer("defaultMode", defaultMode),
			listOf("sources",
				choice("secret"),
				choice("configMap"),
				choice("podCertificate", free("userAnnotations")),
				choice("downwardAPI", downwardItems()),
				choice("serviceAccountToken", pointer("expirationSeconds", int64(3600))),
				choice("clusterTrustBundle", labelSelector(choice, "labelSelector")),
			),
		),
		choice("ephemeral", choice("volumeClaimTemplate",
			optional("metadata", free("labels"), free("annotations")),
			always("spec", claimSpec()...),
		)),
		choice("image", derived("pullPolicy", pullPolicyOf("reference"))),
		choice("persistentVolumeClaim", zero("readOnly", false)),
		choice("csi", free("volumeAttributes"), optional("nodePublishSecretRef")),
		choice("nfs", zero("readOnly", false)),
		choice("iscsi",
			value("iscsiInterface", "default"),
			zero("lun", int64(0)),
			zero("readOnly", false),
			zero("chapAuthDiscovery", false),
			zero("chapAuthSession", false),
			optional("secretRef"),
		),
		choice("fc", zero("readOnly", false)),
		choice("rbd",
			value("pool", "rbd"),
			value("user", "admin"),
			value("keyring", "/etc/ceph/keyring"),
			zero("readOnly", false),
			optional("secretRef"),
		),
		choice("cephfs", zero("readOnly", false), optional("secretRef")),
		choice("glusterfs", zero("readOnly", false)),
		choice("cinder", zero("readOnly", false), optional("secretRef")),
		choice("gcePersistentDisk", zero("partition", int64(0)), zero("readOnly", false)),
		choice("awsElasticBlockStore", zero("partition", int64(0)), zero("readOnly", false)),
		choice("azureFile", zero("readOnly", false)),
		choice("azureDisk",
			pointer("cachingMode", "ReadWrite"),
			pointer("fsType", "ext4"),
			pointer("readOnly", false),
			pointer("kind", "Shared"),
		),
		choice("scaleIO",
			value("storageMode", "ThinProvisioned"),
			value("fsType", "xfs"),
			zero("sslEnabled", false),
			zero("readOnly", false),
			optional("secretRef"),
		),
		choice("storageos", zero("readOnly", false), optional("secretRef")),
		choice("portworxVolume", zero("readOnly", false)),
		choice("quobyte", zero("readOnly", false)),
		choice("flexVolume", zero("readOnly", false), free("options"), optional("secretRef")),
		choice("flocker"),
		choice("gitRepo"),
		choice("vsphereVolume"),
		choice("photonPersistentDisk"),
	}
}

// emptyDirIfNothingElse: a volume without any source is an emptyDir. Sources that are newer than this table count.
func emptyDirIfNothingElse(beside object) any {
	if beside == nil {
		return nil // asked without a parent: an emptyDir is then taken for a choice
	}
	for k, v := range beside {
		if k != "name" && k != "emptyDir" && v != nil {
			return nil
		}
	}
	return object{}
}

// claimSpec is the spec of a PersistentVolumeClaim. An empty storageClassName asks for no class at all.
func claimSpec() []*node {
	return []*node{
		pointer("volumeMode", "Filesystem"),
		distinct("storageClassName"),
		resources(),
		labelSelector(choice, "selector"),
	}
}
