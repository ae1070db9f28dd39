package object

import (
	"crypto/rand"
	"math/big"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// SASLSecretName is the Secret with the passwords; "" if the cluster has none.
func (c *Cluster) SASLSecretName() string {
	if !c.secured() {
		return ""
	}
	return c.Setting(settings.SASLSecret.Key)
}

// OwnSASLSecret tells that the Secret has the name that it has unless somebody chooses another one. Only such a Secret is
// generated: one that somebody named is somebody's to make.
func (c *Cluster) OwnSASLSecret() bool {
	return c.SASLSecretName() == c.Name+"-sasl"
}

// SecretKeys are the keys of the SASL Secret that the pods mount.
func (c *Cluster) SecretKeys() []string {
	return settings.PasswordKeys(c.Role, c.Setting(settings.SASLKey), c.zookeeper.Mode)
}

// password is what the init step of the pods accepts: Kafka's and ZooKeeper's parsers split at commas, quotes and spaces.
var password = regexp.MustCompile(`\A[A-Za-z0-9_-]{16,}\z`)

// BadKeys lists the needed keys that a Secret lacks, and those whose value is not a password that can be used.
func (c *Cluster) BadKeys(data map[string][]byte) (missing, malformed []string) {
	for _, k := range c.SecretKeys() {
		switch v, ok := data[k]; {
		case !ok:
			missing = append(missing, k)
		case !password.Match(v):
			malformed = append(malformed, k)
		}
	}
	return missing, malformed
}

// NewSASLSecret makes a Secret with new passwords for every user there may ever be. Nothing owns it: it has to live as long as
// the volumes, which are formatted with it.
func (c *Cluster) NewSASLSecret() (*corev1.Secret, error) {
	s := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: c.meta(c.SASLSecretName()),
		Type:       corev1.SecretTypeOpaque,
		Immutable:  ptr.To(true),
		Data:       map[string][]byte{},
	}
	for _, k := range []string{settings.ControllerPassword, settings.BrokerPassword, settings.ClientPassword, settings.ZooKeeperPassword} {
		p, err := newPassword()
		if err != nil {
			return nil, err
		}
		s.Data[k] = p
	}
	return s, nil
}

// passwordLength makes a password of 190 bits.
const passwordLength = 32

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func newPassword() ([]byte, error) {
	p := make([]byte, passwordLength)
	for i := range p {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return nil, err
		}
		p[i] = alphabet[n.Int64()]
	}
	return p, nil
}

// ClientUser is the user that applications log in as.
const ClientUser = "client"

// ClientSecretName is the Secret for applications; "" where there are none.
func (c *Cluster) ClientSecretName() string {
	if c.Role != setting.Kafka {
		return ""
	}
	return c.Name + "-client"
}

// ClientSecret is all that an application needs to connect, and no more: it may be given to people who must not read the
// nodes' own passwords. client.properties is for Kafka's tools and Java clients as it stands; the single keys are named as the
// Service Binding specification and Kafka name them. The password is that of [ClientUser], nil for a cluster without any; ca
// are the certificates of the cluster's authority as PEM, empty for one without TLS.
func (c *Cluster) ClientSecret(password, ca []byte) *corev1.Secret {
	data := map[string]string{"type": "kafka", "bootstrap.servers": c.BootstrapServers()}
	protocol := "PLAINTEXT"
	if c.TLSSecret() != "" {
		protocol = "SSL"
		data["ssl.truststore.type"], data["ssl.truststore.certificates"] = "PEM", string(ca)
	}
	if c.secured() {
		protocol = "SASL_" + protocol
		mechanism, module := "PLAIN", "plain.PlainLoginModule"
		if m := c.Setting(settings.SASLKey); m != settings.Plain {
			mechanism, module = strings.ToUpper(m), "scram.ScramLoginModule"
		}
		data["username"], data["password"] = ClientUser, string(password)
		data["sasl.mechanism"] = mechanism
		data["sasl.jaas.config"] = "org.apache.kafka.common.security." + module + ` required username="` + ClientUser + `" password="` + string(password) + `";`
	}
	data["security.protocol"] = protocol

	var properties strings.Builder
	for _, k := range []string{"bootstrap.servers", "security.protocol", "sasl.mechanism", "sasl.jaas.config", "ssl.truststore.type", "ssl.truststore.certificates"} {
		if v, ok := data[k]; ok {
			properties.WriteString(k + "=" + propertyValue.Replace(v) + "\n")
		}
	}
	// Its usual name; the property's is for client.properties.
	if pem, ok := data["ssl.truststore.certificates"]; ok {
		data["ca.crt"] = pem
		delete(data, "ssl.truststore.certificates")
		delete(data, "ssl.truststore.type")
	}
	data["client.properties"] = properties.String()
	s := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: c.meta(c.ClientSecretName()),
		Type:       corev1.SecretTypeOpaque,
		Data:       make(map[string][]byte, len(data)),
	}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

// propertyValue writes a value of several lines as one of a Java properties file.
var propertyValue = strings.NewReplacer(`\`, `\\`, "\r", `\r`, "\n", `\n`)
