package settings

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

const metricsPort = 9404

// Metrics serves Prometheus metrics.
var Metrics = setting.Setting[bool]{
	Key:      "metrics",
	Doc:      "Prometheus metrics on the container port `metrics` (9404): Kafka's through the JMX exporter, ZooKeeper's by itself.",
	Allowed:  "true or false",
	Example:  "true",
	Rule:     "false.",
	Replaces: "metrics_enabled",
	Parse:    parseBool,
	Format:   formatBool,
	Default:  func(*setting.Resolver) bool { return false },
	Render: func(d *setting.Draft, on bool) {
		if !on {
			return
		}
		d.Main.Ports = append(d.Main.Ports, corev1.ContainerPort{Name: "metrics", ContainerPort: metricsPort})
		if d.Role == setting.ZooKeeper {
			d.Config.Put("metricsProvider.className", "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider")
			d.Config.Put("metricsProvider.httpPort", "9404")
			d.Config.Put("metricsProvider.exportJvmInfo", "true")
			return
		}
		d.File("jmx.yaml", jmxRules)
		d.JVM = append(d.JVM, "-javaagent:"+setting.RunDir+"/jmx_prometheus_javaagent.jar=9404:"+setting.ConfigDir+"/jmx.yaml")
	},
}

// MetricsImage is where the JMX exporter comes from.
var MetricsImage = setting.Setting[string]{
	Key:     "metrics-image",
	Roles:   []setting.Role{setting.Kafka},
	Doc:     "Image that an init container copies the Prometheus JMX exporter from; it must hold jmx_prometheus_javaagent*.jar below /opt.",
	Allowed: "an image reference with a tag or a digest",
	Example: "registry.example.com/jmx-exporter:1.6.0",
	Rule:    "Strimzi's Kafka image, which carries the exporter; Kafka's own does not.",
	Parse:   parseImage,
	Default: func(r *setting.Resolver) string {
		if !Metrics.Get(r) {
			return ""
		}
		return "quay.io/strimzi/kafka:" + strimziTag
	},
	Render: func(d *setting.Draft, image string) {
		if !Metrics.Get(d.Resolver) {
			return
		}
		d.AddInit(corev1.Container{
			Name:  "metamorph-metrics",
			Image: image,
			// The jar's name has the version in it, which is the image's affair.
			Command: []string{"sh", "-ec", `for jar in $(find /opt -name 'jmx_prometheus_javaagent*.jar' | sort); do found=$jar; done
[ -n "${found:-}" ] || { echo "metamorph: the image has no jmx_prometheus_javaagent*.jar below /opt" | tee /dev/termination-log >&2; exit 1; }
cp "$found" ` + setting.RunDir + `/jmx_prometheus_javaagent.jar`},
			SecurityContext: d.Main.SecurityContext,
			Resources:       d.Main.Resources,
			VolumeMounts:    []corev1.VolumeMount{{Name: setting.RunVolume, MountPath: setting.RunDir}},
		})
	},
}
