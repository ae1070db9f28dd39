package settings

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// TLSSecret names the Secret with the certificate.
var TLSSecret = setting.Setting[string]{
	Key:     "tls-secret",
	Doc:     "Secret with PEM files: tls.crt (the chain), tls.key (PKCS#8) and ca.crt. With it, every listener is TLS.",
	Allowed: "the name of a Secret in the StatefulSet's namespace",
	Example: "events-tls",
	Rule:    "None: no TLS.",
	Fixed:   "nodes with and without TLS cannot talk to each other during the roll; create a new StatefulSet",
	Moves:   func(from, to string) bool { return (from == "") != (to == "") },
	Parse:   parseName,
	Render: func(d *setting.Draft, secret string) {
		if secret == "" {
			return
		}
		items := []corev1.KeyToPath{{Key: "tls.crt", Path: "tls.crt"}, {Key: "tls.key", Path: "tls.key"}, {Key: "ca.crt", Path: "ca.crt"}}
		d.Volume(corev1.Volume{Name: setting.TLSVolume, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secret, Items: items, DefaultMode: &secretMode},
		}}, setting.TLSDir, true)
		d.Env("TLS", "true")
		c := d.Config
		if d.Role == setting.ZooKeeper {
			renderZooKeeperTLS(d)
			return
		}
		ref := func(file string) string { return "${dir:" + setting.TLSDir + ":" + file + "}" }
		c.Put("ssl.keystore.type", "PEM")
		c.Put("ssl.keystore.certificate.chain", ref("tls.crt"))
		c.Put("ssl.keystore.key", ref("tls.key"))
		c.Put("ssl.truststore.type", "PEM")
		c.Put("ssl.truststore.certificates", ref("ca.crt"))
	},
}
