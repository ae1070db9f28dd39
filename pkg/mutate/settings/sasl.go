package settings

import (
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// SASLKey is the key of the setting SASL.
const SASLKey = "sasl"

// The values of the setting sasl.
const (
	ScramSHA512 = "scram-sha-512"
	ScramSHA256 = "scram-sha-256"
	Plain       = "plain"
	NoSASL      = "none"
)

var mechanisms = []string{ScramSHA512, ScramSHA256, Plain, NoSASL}

// The keys of the SASL Secret: whose passwords they hold.
const (
	ControllerPassword = "controller" // user controller: the quorum's own listener
	BrokerPassword     = "broker"     // user kafka: between brokers
	ClientPassword     = "client"     // user client: for applications
	ZooKeeperPassword  = "zookeeper"  // user kafka at ZooKeeper, and between ZooKeeper servers
)

// SASL chooses how clients, brokers and controllers prove who they are.
var SASL = setting.Setting[string]{
	Key: SASLKey,
	Doc: "How clients and nodes authenticate. The controllers' own listener uses PLAIN in any case (SCRAM is not available to a " +
		"quorum that is still forming), and ZooKeeper DIGEST-MD5.",
	Allowed: strings.Join(mechanisms, ", "),
	Example: ScramSHA512,
	Rule:    ScramSHA512 + ".",
	Fixed:   "nodes with and without it, or with different mechanisms, cannot talk to each other during the roll; create a new StatefulSet",
	Parse: func(text string) (string, error) {
		for _, m := range mechanisms {
			if text == m {
				return m, nil
			}
		}
		if text == "" {
			return "", errEmpty
		}
		if n := Nearest(strings.ToLower(text), mechanisms); n != "" {
			return "", errors.New("is not a mechanism; did you mean " + n)
		}
		return "", errors.New("is not a mechanism")
	},
	Default: func(*setting.Resolver) string { return ScramSHA512 },
	Render: func(d *setting.Draft, mechanism string) {
		if d.Role == setting.ZooKeeper {
			renderZooKeeperSASL(d, mechanism)
			return
		}
		renderKafkaSASL(d, mechanism)
	},
}

// SASLSecret names the Secret with the passwords.
var SASLSecret = setting.Setting[string]{
	Key: "sasl-secret",
	Doc: "Secret with the passwords, under the keys controller, broker, client and zookeeper: 16 or more of A-Z, a-z, 0-9, _ and - each. " +
		"It must live as long as the volumes, which are formatted with it.",
	Allowed:  "the name of a Secret in the StatefulSet's namespace",
	Example:  "events-sasl",
	Rule:     "NAME-sasl.",
	Replaces: "sasl_inter_broker_password",
	Parse:    parseName,
	Default: func(r *setting.Resolver) string {
		if SASL.Get(r) == NoSASL {
			return ""
		}
		return r.Facts.Name + "-sasl"
	},
	Render: func(d *setting.Draft, secret string) {
		keys := secretKeys(d.Resolver)
		if secret == "" || len(keys) == 0 {
			return
		}
		items := make([]corev1.KeyToPath, len(keys))
		for i, k := range keys {
			items[i] = corev1.KeyToPath{Key: k, Path: k}
		}
		// Each key by name, and none optional: Kafka takes a reference to a missing key as it stands for the password.
		source := corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret, Items: items, DefaultMode: &secretMode}}
		if d.Role == setting.Kafka && ZooKeeper.Get(d.Resolver).Mode == ExternalZooKeeper {
			part := func(items []corev1.KeyToPath, optional *bool) corev1.VolumeProjection {
				return corev1.VolumeProjection{Secret: &corev1.SecretProjection{
					LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Items: items, Optional: optional,
				}}
			}
			source = corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: &secretMode, Sources: []corev1.VolumeProjection{
				part(items, nil), part([]corev1.KeyToPath{{Key: ZooKeeperPassword, Path: ZooKeeperPassword}}, new(true)),
			}}}
		}
		d.Volume(corev1.Volume{Name: setting.SASLVolume, VolumeSource: source}, setting.SASLDir, true)
		d.Init.Env = append(d.Init.Env, corev1.EnvVar{Name: setting.EnvPrefix + "SECRET_KEYS", Value: strings.Join(keys, " ")})
	},
}

// secretMode is readable for the pod's group (fsGroup) and nobody else.
var secretMode = int32(0o440)

// secretKeys are the keys that a set reads.
func secretKeys(r *setting.Resolver) []string {
	mode := NoZooKeeper
	if r.Role == setting.Kafka {
		mode = ZooKeeper.Get(r).Mode
	}
	return PasswordKeys(r.Role, SASL.Get(r), mode)
}

// PasswordKeys are the keys of the SASL Secret that a set mounts, none of them optional.
func PasswordKeys(role setting.Role, sasl string, mode ZooKeeperMode) []string {
	switch {
	case sasl == NoSASL:
		return nil
	case role == setting.ZooKeeper:
		return []string{ZooKeeperPassword}
	case mode == NoZooKeeper:
		return []string{ControllerPassword, BrokerPassword, ClientPassword}
	case mode == ExternalZooKeeper:
		return []string{BrokerPassword, ClientPassword}
	}
	return []string{BrokerPassword, ClientPassword, ZooKeeperPassword}
}

// renderKafkaSASL secures the three listeners. Passwords are references that Kafka's own config provider resolves.
func renderKafkaSASL(d *setting.Draft, mechanism string) {
	kraft := ZooKeeper.Get(d.Resolver).Mode == NoZooKeeper
	protocol := map[bool]string{false: "PLAINTEXT", true: "SSL"}[TLSSecret.Get(d.Resolver) != ""]
	if mechanism != NoSASL {
		protocol = "SASL_" + protocol
	}
	m := "CLIENT:" + protocol + ",INTERNAL:" + protocol
	if kraft {
		m += ",CONTROLLER:" + protocol
	}
	c := d.Config
	c.Put("listener.security.protocol.map", m)
	if mechanism == NoSASL {
		return
	}
	ref := func(key string) string { return "${dir:" + setting.SASLDir + ":" + key + "}" }
	const plainModule = "org.apache.kafka.common.security.plain.PlainLoginModule required"
	const scramModule = "org.apache.kafka.common.security.scram.ScramLoginModule required"
	name := strings.ToUpper(mechanism)
	c.Put("sasl.mechanism.inter.broker.protocol", name)
	c.Put("listener.name.internal.sasl.enabled.mechanisms", name)
	c.Put("listener.name.client.sasl.enabled.mechanisms", name)
	if mechanism == Plain {
		c.Put("listener.name.internal.plain.sasl.jaas.config", plainModule+
			` username="kafka" password="`+ref(BrokerPassword)+`" user_kafka="`+ref(BrokerPassword)+`";`)
		c.Put("listener.name.client.plain.sasl.jaas.config", plainModule+
			` user_client="`+ref(ClientPassword)+`" user_kafka="`+ref(BrokerPassword)+`";`)
	} else {
		c.Put("listener.name.internal."+mechanism+".sasl.jaas.config", scramModule+
			` username="kafka" password="`+ref(BrokerPassword)+`";`)
		c.Put("listener.name.client."+mechanism+".sasl.jaas.config", scramModule+";")
		d.Env("SCRAM", name)
	}
	super := "User:kafka"
	if kraft {
		// SCRAM users live in the metadata that the controllers are only about to load (KAFKA-15513).
		c.Put("sasl.mechanism.controller.protocol", "PLAIN")
		c.Put("listener.name.controller.sasl.enabled.mechanisms", "PLAIN")
		c.Put("listener.name.controller.plain.sasl.jaas.config", plainModule+
			` username="controller" password="`+ref(ControllerPassword)+`" user_controller="`+ref(ControllerPassword)+`";`)
		c.Put("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
		super = "User:controller;" + super
	} else {
		c.Put("authorizer.class.name", "kafka.security.authorizer.AclAuthorizer")
	}
	c.Put("super.users", super)
	c.Put("allow.everyone.if.no.acl.found", "true")
}
