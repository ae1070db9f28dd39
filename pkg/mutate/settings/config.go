package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/catalogue"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

const messageExample = "message.max.bytes=2097152"

// exampleLine is a line that every version of a role takes.
func exampleLine(role setting.Role) string {
	if role == setting.ZooKeeper {
		return "snapCount=50000"
	}
	return messageExample
}

// Config adds lines to server.properties or zoo.cfg.
var Config = setting.Setting[*setting.Properties]{
	Key: "config",
	Doc: "Further lines of server.properties or zoo.cfg; of several layers that have them the highest counts as a whole. They win over the rendered ones, but cannot touch identity, quorum and security. " +
		"A line that a setting also decides counts as that setting.",
	Allowed:  "lines of key=value that the version's broker or server knows",
	Example:  messageExample,
	Rule:     "None.",
	Replaces: "values_yaml",
	Parse:    ParseConfig,
	Format: func(p *setting.Properties) string {
		if p == nil {
			return ""
		}
		return p.String()
	},
	Check: checkConfig,
	Render: func(d *setting.Draft, lines *setting.Properties) {
		if lines == nil {
			return
		}
		for _, k := range lines.Keys() {
			if _, decided := propertySetting[k]; !decided {
				v, _ := lines.Get(k)
				d.Config.Put(k, v)
			}
		}
	},
}

// KnownLines drops the lines of a config that is meant for many sets which no version of the role knows. It returns the
// other lines and the keys of those; a text that cannot be read is returned as it is.
func KnownLines(role setting.Role, text string) (known string, ignored []string) {
	all, err := ParseConfig(text)
	if err != nil {
		return text, nil
	}
	kept := &setting.Properties{}
	for _, key := range all.Keys() {
		ok := slices.ContainsFunc(supported[role], func(v Release) bool {
			_, known := catalogueFor(role, v).Lookup(key)
			return known
		})
		if v, _ := all.Get(key); ok {
			kept.Put(key, v)
			continue
		}
		ignored = append(ignored, key)
	}
	return kept.String(), ignored
}

// maxConfig bounds config: with everything else it must fit into the 256 KiB that Kubernetes allows for annotations, and
// it stands there three times (as written, in the source, and rendered).
const maxConfig = 32 << 10

// ParseConfig reads lines of Java properties: key=value or key: value, # and ! comments, a backslash that continues a line.
func ParseConfig(text string) (*setting.Properties, error) {
	if text == "" {
		return nil, errEmpty
	}
	if len(text) > maxConfig {
		return nil, fmt.Errorf("is longer than %d bytes", maxConfig)
	}
	p := &setting.Properties{}
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		number := i + 1
		line := strings.TrimSpace(lines[i])
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + strings.TrimSpace(lines[i])
		}
		at := strings.IndexAny(line, "=:")
		if at <= 0 {
			// The line itself is not repeated: it may be a password.
			return nil, fmt.Errorf("has no key=value in line %d", number)
		}
		key, value := strings.TrimSpace(line[:at]), strings.TrimSpace(line[at+1:])
		if bad := strings.IndexFunc(key+value, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0xfffd }); bad >= 0 {
			return nil, fmt.Errorf("has a control character in line %d", number)
		}
		if strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' || c == '\\' }) {
			return nil, fmt.Errorf("has a key that is not plain ASCII without spaces in line %d", number)
		}
		if strings.Contains(value, `\`) {
			return nil, fmt.Errorf("has a backslash in the value of line %d; write the character itself", number)
		}
		if _, twice := p.Get(key); twice {
			return nil, fmt.Errorf("has %s twice, the second time in line %d", key, number)
		}
		p.Put(key, value)
	}
	if len(p.Keys()) == 0 {
		return nil, errors.New("has no lines but comments")
	}
	return p, nil
}

// guarded are the keys of each role that follow from annotations and from the pod: identity, quorum and security. A name
// that ends with a dot stands for all that start with it.
var guarded = map[setting.Role][]struct{ keys, why string }{
	setting.Kafka: {
		{"node.id broker.id broker.id.generation.enable reserved.broker.max.id cluster.id process.roles broker.rack", "is the node's identity, which follows from the pod"},
		{
			"controller.quorum.voters controller.quorum.bootstrap.servers controller.quorum.auto.join.enable controller.listener.names",
			"is the quorum, which is fixed when the set is created",
		},
		{"log.dir log.dirs metadata.log.dir", "is the place of the data, which is the volume of the claim data"},
		{
			"listeners advertised.listeners listener.security.protocol.map inter.broker.listener.name security.inter.broker.protocol " +
				"control.plane.listener.name early.start.listeners", "is the network identity of the node, which follows from its pod",
		},
		{
			"sasl. listener.name. authorizer.class.name super.users principal.builder.class security.providers",
			"is security, which follows from metamorph.dev/sasl and metamorph.dev/sasl-secret",
		},
		{"ssl.", "is security, which follows from metamorph.dev/tls-secret"},
		{"config.providers config.providers.", "is how the nodes find their identity and their passwords"},
		{"zookeeper.connect zookeeper.set.acl", "is the quorum, which follows from metamorph.dev/zookeeper"},
		{"password.encoder.secret password.encoder.old.secret", "is a password, which would stand here in clear"},
	},
	setting.ZooKeeper: {
		{
			"server. group. weight. standaloneEnabled reconfigEnabled dynamicConfigFile skipACL electionPortBindRetry peerType electionAlg quorumListenOnAllIPs",
			"is the quorum, which follows from spec.replicas",
		},
		{"dataDir dataLogDir", "is the place of the data, which is the volume of the claim data"},
		{"clientPort clientPortAddress secureClientPort secureClientPortAddress serverCnxnFactory", "is the network identity of the server, which follows from its pod"},
		{"authProvider. quorum.auth. quorum.cnxn. requireClientAuthScheme sessionRequireClientSASLAuth enforce.auth. DigestAuthenticationProvider. SASLAuthenticationProvider. " +
			"zookeeper.DigestAuthenticationProvider. X509AuthenticationProvider. allowSaslFailedClients", "is security, which follows from metamorph.dev/sasl"},
		{"ssl. sslQuorum portUnification client.portUnification multiAddress. fips-mode", "is security, which follows from metamorph.dev/tls-secret"},
		{"admin. 4lw.commands.whitelist", "opens the server's administration; its probes need what is rendered"},
	},
}

// allowedSSL are keys below a guarded name that only narrow what is accepted.
var allowedSSL = []string{"ssl.cipher.suites", "ssl.enabled.protocols", "ssl.protocol", "ssl.ciphersuites", "ssl.enabledProtocols"}

func guard(role setting.Role, key string) string {
	if slices.Contains(allowedSSL, key) {
		return ""
	}
	for _, g := range guarded[role] {
		for k := range strings.FieldsSeq(g.keys) {
			if k == key || (strings.HasSuffix(k, ".") && strings.HasPrefix(key, k)) {
				return g.why
			}
		}
	}
	return ""
}

// propertySetting finds the setting that a line of config decides.
var propertySetting map[string]setting.Definition

func checkConfig(r *setting.Resolver, lines *setting.Properties) {
	if lines == nil {
		return
	}
	known := catalogueFor(r.Role, Version.Get(r))
	field := r.FieldOf("config")
	report := func(code setting.Code, key, value, reason, allowed, example string) {
		got := setting.Quote(key + "=" + value)
		if code == setting.Password || setting.LooksSecret(key+value) {
			got = setting.Quote(key + "=…")
		}
		r.Report(setting.Problem{Code: code, Field: field, Got: got, Reason: reason, Allowed: allowed, Example: example})
	}
	from := r.Values()["config"].Origin
	for _, key := range lines.Keys() {
		value, _ := lines.Get(key)
		if strings.Contains(strings.ToLower(value), "password=") {
			report(setting.Password, key, "", "holds a password, which everybody who can read the object can read", "a Secret named in metamorph.dev/sasl-secret", "metamorph.dev/sasl-secret: "+r.Facts.Name+"-sasl")
			continue
		}
		if k, ok := known.Lookup(key); ok && k.Sensitive && !strings.HasPrefix(value, "${") && guard(r.Role, key) == "" {
			report(setting.Password, key, "", "is a password, which everybody who can read the object can read", "nothing: leave the line out; what is secret comes from the Secrets that the annotations name", exampleLine(r.Role))
			continue
		}
		if strings.Contains(value, setting.SASLDir) || strings.Contains(value, setting.TLSDir) {
			report(setting.BadConfig, key, value, "would put a password or a key where nobody expects it", "a value without a reference to the Secrets", exampleLine(r.Role))
			continue
		}
		if why := guard(r.Role, key); why != "" {
			report(setting.BadConfig, key, value, why+", and cannot be set in config", "the annotations and the spec, from which it is rendered", exampleLine(r.Role))
			continue
		}
		var unknown *catalogue.Unknown
		var bad *catalogue.BadValue
		switch err := known.Check(key, value); {
		case errors.As(err, &unknown):
			reason := "is not a setting of " + string(r.Role) + " " + Version.Get(r).Line()
			if unknown.Nearest != "" {
				reason += "; did you mean " + unknown.Nearest
			}
			example := exampleLine(r.Role)
			if unknown.Nearest != "" {
				example = unknown.Nearest + "=…"
			}
			report(setting.BadConfig, key, value, reason, "the keys of "+string(r.Role)+" "+Version.Get(r).Line(), example)
			continue
		case errors.As(err, &bad):
			report(setting.BadConfig, key, value, "is not a "+bad.Type+" that "+string(r.Role)+" takes", bad.Allowed, bad.Example)
			continue
		}
		if d, ok := propertySetting[key]; ok {
			name := d.Info().Key
			v := r.Values()[name]
			text, err := setting.FromProperty(d, key, value)
			if err != nil {
				report(setting.BadConfig, key, value, "decides metamorph.dev/"+name+", for which it "+err.Error(), d.Info().Allowed, d.Info().Example)
			} else if v.Origin == from && text != v.Text {
				report(setting.BadConfig, key, value, "contradicts metamorph.dev/"+name+", which is "+setting.Quote(v.Text), "one of the two, or both alike", "metamorph.dev/"+name+": "+v.Text)
			}
		}
	}
}

// Decided lists the settings that are decided by lines in which two configs differ.
func Decided(a, b string) []string {
	x, errX := ParseConfig(a)
	y, errY := ParseConfig(b)
	if errX != nil {
		x = &setting.Properties{}
	}
	if errY != nil {
		y = &setting.Properties{}
	}
	var out []string
	for property, d := range propertySetting {
		old, had := x.Get(property)
		if v, has := y.Get(property); had != has || old != v {
			out = append(out, d.Info().Key)
		}
	}
	return out
}

func catalogueFor(role setting.Role, v Release) *catalogue.Catalogue {
	if role == setting.ZooKeeper {
		c, _ := catalogue.ZooKeeper(v.Line())
		return c
	}
	c, _ := catalogue.Kafka(v.Line())
	return c
}
