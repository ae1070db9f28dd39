package settings

import (
	_ "embed"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// commonScript comes before each role's own.
//
//go:embed files/common.sh
var commonScript string

//go:embed files/kafka.sh
var kafkaScript string

//go:embed files/log4j2.yaml
var kafkaLog4j2 string

//go:embed files/log4j.properties
var kafkaLog4j string

//go:embed files/jmx.yaml
var jmxRules string

// strimziTag is an image of Strimzi's that carries the JMX exporter 1.6.0 (its Dockerfile, JMX_EXPORTER_VERSION).
const strimziTag = "1.2.0-kafka-4.3.0"

const (
	kafkaData    = "/var/lib/kafka/data"
	kafkaLogDirs = kafkaData + "/kafka-logs" // below the mount: lost+found beside partitions stops a broker
)

// kafkaGrace is how long a broker may take to stop: a controlled shutdown waits up to 5 minutes for its leaders to move.
const kafkaGrace = 330

// renderKafka renders what every Kafka set has, whatever its settings.
func renderKafka(d *setting.Draft) {
	kraft := ZooKeeper.Get(d.Resolver).Mode == NoZooKeeper
	renderCommon(d, "kafka", kafkaGrace)
	d.ConfigFile = "server.properties"
	d.Mount(setting.DataVolume, kafkaData, false)
	emptyDir(d, setting.LogsVolume, "/opt/kafka/logs", "")

	d.Main.Ports = []corev1.ContainerPort{
		{Name: "client", ContainerPort: 9092},
		{Name: "internal", ContainerPort: 9094},
	}
	if kraft {
		d.Main.Ports = append(d.Main.Ports, corev1.ContainerPort{Name: "controller", ContainerPort: 9093})
	}
	d.Env("FQDN", "$(MM_POD)."+Headless(d.Facts.Name)+".$(MM_NAMESPACE).svc")
	// Where nodes have a zone, kubelets of Kubernetes 1.35 and later give it to their pods as a label.
	d.EnvField("RACK", "metadata.labels['topology.kubernetes.io/zone']")

	script := func(step string) []string { return []string{"bash", setting.ConfigDir + "/kafka.sh", step} }
	d.Init.Command, d.Main.Command = script("prepare"), script("start")
	// Probes run every 10 s, and fail after 3 times: the API's defaults, which are not rendered.
	alive := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: script("alive")}}
	d.Main.StartupProbe = &corev1.Probe{ProbeHandler: alive, FailureThreshold: 360, TimeoutSeconds: 5}
	d.Main.LivenessProbe = &corev1.Probe{ProbeHandler: alive, FailureThreshold: 6, TimeoutSeconds: 5}
	// 9092 opens when the log is recovered and the broker takes part.
	d.Main.ReadinessProbe = &corev1.Probe{ProbeHandler: tcp(9092), TimeoutSeconds: 5}
	mountState(d)

	d.File("kafka.sh", commonScript+kafkaScript)
	if Version.Get(d.Resolver).AtLeast(4, 0) {
		d.File("log4j2.yaml", kafkaLog4j2)
	} else {
		d.File("log4j.properties", kafkaLog4j)
	}
	d.JVM = append(d.JVM, gcFlags...)

	c := d.Config
	c.Put("config.providers", "env,dir")
	c.Put("config.providers.env.class", "org.apache.kafka.common.config.provider.EnvVarConfigProvider")
	c.Put("config.providers.env.param.allowlist.pattern", "MM_.*")
	c.Put("config.providers.dir.class", "org.apache.kafka.common.config.provider.DirectoryConfigProvider")
	c.Put("config.providers.dir.param.allowed.paths", setting.SASLDir+","+setting.TLSDir)
	if kraft {
		c.Put("node.id", "${env:MM_ID}")
		c.Put("process.roles", "${env:MM_ROLES}")
		c.Put("controller.listener.names", "CONTROLLER")
		// A broker that cannot register in time exits and takes the controller in the same process along.
		c.Put("initial.broker.registration.timeout.ms", "600000")
	} else {
		c.Put("broker.id", "${env:MM_ID}")
		c.Put("broker.id.generation.enable", "false")
	}
	c.Put("listeners", "${env:MM_LISTENERS}")
	c.Put("advertised.listeners", "CLIENT://${env:MM_FQDN}:9092,INTERNAL://${env:MM_FQDN}:9094")
	c.Put("inter.broker.listener.name", "INTERNAL")
	c.Put("log.dirs", kafkaLogDirs)
	c.Put("auto.create.topics.enable", "false")
	c.Put("unclean.leader.election.enable", "false")
	if SASL.Get(d.Resolver) == NoSASL && TLSSecret.Get(d.Resolver) == "" {
		// The provider refuses a path that is not there.
		c.Put("config.providers.dir.param.allowed.paths", setting.ConfigDir)
	} else if TLSSecret.Get(d.Resolver) == "" {
		c.Put("config.providers.dir.param.allowed.paths", setting.SASLDir)
	} else if SASL.Get(d.Resolver) == NoSASL {
		c.Put("config.providers.dir.param.allowed.paths", setting.TLSDir)
	}
}

// gcFlags are Kafka's own (bin/kafka-run-class.sh), with what a container needs: the log on stdout, and an exit where the
// JVM would linger without memory.
var gcFlags = []string{
	"-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
	"-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true", "-Xlog:gc:stdout:time,tags",
}

// renderCommon renders what both roles have.
func renderCommon(d *setting.Draft, container string, grace int64) {
	labels := map[string]string{setting.Prefix + "role": string(d.Role), setting.Prefix + "name": d.Facts.Name}
	d.Set.Labels = labels
	spec := &d.Set.Spec
	spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	spec.ServiceName = Headless(d.Facts.Name)
	// Ordered start would deadlock: the first pod is ready when there is a quorum, and there is none with one pod.
	spec.PodManagementPolicy = "Parallel"
	t := d.Pod()
	t.Labels = labels
	t.Annotations = map[string]string{"kubectl.kubernetes.io/default-container": container}
	t.Spec = corev1.PodSpec{
		// Variables of other Services (KAFKA_PORT=tcp://…) are taken for configuration by start scripts.
		EnableServiceLinks:            new(false),
		AutomountServiceAccountToken:  new(false),
		TerminationGracePeriodSeconds: &grace,
		SecurityContext: &corev1.PodSecurityContext{
			// The images' users have names, and Kubernetes can only tell from a number that it is not root.
			RunAsUser: new(int64(1000)), RunAsGroup: new(int64(1000)), FSGroup: new(int64(1000)),
			RunAsNonRoot:        new(true),
			FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
			SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	for _, key := range []string{"topology.kubernetes.io/zone", "kubernetes.io/hostname"} {
		t.Spec.TopologySpreadConstraints = append(t.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
		})
	}
	security := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	// A node that ends with an error says why in its log; its last lines become the pod's status, where people and the
	// controller of the companions find them.
	const message = corev1.TerminationMessageFallbackToLogsOnError
	*d.Main = corev1.Container{Name: container, SecurityContext: security, TerminationMessagePolicy: message}
	*d.Init = corev1.Container{Name: setting.InitContainer, TerminationMessagePolicy: message}
	d.EnvField("POD", "metadata.name")
	d.EnvField("NAMESPACE", "metadata.namespace")
	emptyDir(d, setting.TmpVolume, "/tmp", "")
	emptyDir(d, setting.RunVolume, setting.RunDir, corev1.StorageMediumMemory)
}

// mountState gives the init step the record of the nodes that were ever ready: one of these whose volume is empty has lost its
// data, and must not begin anew by itself.
func mountState(d *setting.Draft) {
	pod := &d.Pod().Spec
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: setting.StateVolume, VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: d.Facts.Name + "-state"}, Optional: new(true),
		},
	}})
	d.Init.VolumeMounts = append(d.Init.VolumeMounts, corev1.VolumeMount{Name: setting.StateVolume, MountPath: setting.StateDir, ReadOnly: true})
}

func emptyDir(d *setting.Draft, name, path string, medium corev1.StorageMedium) {
	d.Volume(corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium}}}, path, false)
}
