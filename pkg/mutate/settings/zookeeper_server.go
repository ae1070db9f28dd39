package settings

import (
	_ "embed"

	corev1 "k8s.io/api/core/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

//go:embed files/zookeeper.sh
var zookeeperScript string

//go:embed files/logback.xml
var zookeeperLogback string

const zookeeperData = "/data"

// zookeeperGrace is how long a server may take to stop: it waits up to 20 s for its clients, then syncs its transaction log.
const zookeeperGrace = 60

// renderZooKeeper renders what every ZooKeeper set has, whatever its settings.
func renderZooKeeper(d *setting.Draft) {
	renderCommon(d, "zookeeper", zookeeperGrace)
	d.ConfigFile = "zoo.cfg"
	d.Mount(setting.DataVolume, zookeeperData, false)
	d.Main.Ports = []corev1.ContainerPort{
		{Name: "client", ContainerPort: 2181},
		{Name: "peer", ContainerPort: 2888},
		{Name: "election", ContainerPort: 3888},
	}
	d.Env("FQDN", "$(MM_POD)."+Headless(d.Facts.Name)+".$(MM_NAMESPACE).svc")
	script := func(step string) []string { return []string{"bash", setting.ConfigDir + "/zookeeper.sh", step} }
	d.Init.Command, d.Main.Command = script("prepare"), script("start")
	d.Main.StartupProbe = &corev1.Probe{ProbeHandler: tcp(2181), FailureThreshold: 60, TimeoutSeconds: 5}
	d.Main.LivenessProbe = &corev1.Probe{ProbeHandler: tcp(2181), FailureThreshold: 6, TimeoutSeconds: 5}
	d.Main.ReadinessProbe = &corev1.Probe{
		ProbeHandler:   corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: script("ready")}},
		TimeoutSeconds: 5,
	}
	d.Main.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: script("drain")}}}
	mountState(d)
	d.File("zookeeper.sh", commonScript+zookeeperScript)
	d.File("logback.xml", zookeeperLogback)
	d.JVM = append(d.JVM, "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=50", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true", "-Xlog:gc:stdout:time,tags")

	// The server's own defaults for a quorum on one network (ZooKeeper Administrator's Guide), and snapshots purged, which
	// nobody does otherwise until the volume is full.
	for _, l := range [][2]string{
		{"dataDir", zookeeperData + "/zookeeper"},
		{"tickTime", "2000"},
		{"initLimit", "10"},
		{"syncLimit", "5"},
		{"maxClientCnxns", "60"},
		{"autopurge.purgeInterval", "1"},
		{"autopurge.snapRetainCount", "10"},
		{"4lw.commands.whitelist", "srvr,mntr,ruok"},
		{"admin.enableServer", "false"},
		{"quorumListenOnAllIPs", "true"},
		// A pod's name may resolve late: never give up binding the election port (the guide's advice for Kubernetes).
		{"electionPortBindRetry", "0"},
	} {
		d.Config.Put(l[0], l[1])
	}
	if TLSSecret.Get(d.Resolver) == "" {
		d.Config.Put("clientPort", "2181")
	}
}

// renderZooKeeperSASL makes clients and the servers among themselves authenticate with DIGEST-MD5.
func renderZooKeeperSASL(d *setting.Draft, mechanism string) {
	if mechanism == NoSASL {
		return
	}
	c := d.Config
	c.Put("authProvider.sasl", "org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
	c.Put("sessionRequireClientSASLAuth", "true")
	if Servers.Get(d.Resolver) > 1 {
		c.Put("quorum.auth.enableSasl", "true")
		c.Put("quorum.auth.learnerRequireSasl", "true")
		c.Put("quorum.auth.serverRequireSasl", "true")
		c.Put("quorum.auth.learner.saslLoginContext", "QuorumLearner")
		c.Put("quorum.auth.server.saslLoginContext", "QuorumServer")
		c.Put("quorum.cnxn.threads.size", "20")
	}
	// DIGEST-MD5 is not a FIPS algorithm, and with 3.9's default the quorum never forms.
	d.JVM = append(d.JVM, "-Dzookeeper.fips-mode=false")
}

// renderZooKeeperTLS moves the client port and the quorum to TLS.
func renderZooKeeperTLS(d *setting.Draft) {
	c := d.Config
	c.Put("secureClientPort", "2181")
	c.Put("serverCnxnFactory", "org.apache.zookeeper.server.NettyServerCnxnFactory")
	for _, prefix := range []string{"ssl.", "ssl.quorum."} {
		c.Put(prefix+"keyStore.location", setting.RunDir+"/keystore.pem")
		c.Put(prefix+"keyStore.type", "PEM")
		c.Put(prefix+"trustStore.location", setting.TLSDir+"/ca.crt")
		c.Put(prefix+"trustStore.type", "PEM")
	}
	c.Put("ssl.clientAuth", "none")
	// 3.9 offers TLS 1.3 only, and Kafka 3.9's client TLS 1.2 only.
	c.Put("ssl.enabledProtocols", "TLSv1.2,TLSv1.3")
	c.Put("sslQuorum", "true")
	if setting.ByKey[string](d.Resolver, SASLKey) != NoSASL {
		// The server that accepts a connection would look up the other's address in DNS and search its certificate for that
		// name, which ends in the cluster's domain. The other one proves itself with the password.
		c.Put("ssl.quorum.clientHostnameVerification", "false")
	}
	// For the readiness probe, which speaks no TLS. Only the pod itself reaches it.
	c.Put("clientPort", "2182")
	c.Put("clientPortAddress", "127.0.0.1")
}

// renderZooKeeperClient makes a Kafka set use ZooKeeper.
func renderZooKeeperClient(d *setting.Draft, z ZooKeeperRef) {
	if z.Mode == NoZooKeeper {
		return
	}
	c := d.Config
	c.Put("zookeeper.connect", z.connect(d.Facts.Name))
	d.Env("ZOOKEEPER", z.connect(d.Facts.Name))
	if setting.ByKey[string](d.Resolver, SASLKey) != NoSASL {
		auth := "true"
		if z.Mode == ExternalZooKeeper {
			auth = "optional"
		}
		d.Env("ZK_AUTH", auth)
		// Set by the start script: an external ensemble without authentication refuses access lists.
		c.Put("zookeeper.set.acl", "${env:MM_ZK_ACL}")
	}
	if TLSSecret.Get(d.Resolver) != "" && z.Mode != ExternalZooKeeper {
		d.Env("ZK_TLS", "true")
		c.Put("zookeeper.ssl.client.enable", "true")
		c.Put("zookeeper.clientCnxnSocket", "org.apache.zookeeper.ClientCnxnSocketNetty")
		c.Put("zookeeper.ssl.truststore.location", setting.TLSDir+"/ca.crt")
		c.Put("zookeeper.ssl.truststore.type", "PEM")
	}
}
