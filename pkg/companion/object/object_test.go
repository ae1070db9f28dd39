package object_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

var update = flag.Bool("update", false, "write the golden files anew")

// cluster is that of a StatefulSet with these annotations, expanded.
func cluster(t testing.TB, annotations map[string]string) *object.Cluster {
	t.Helper()
	notes := map[string]string{}
	for k, v := range annotations {
		notes[setting.Prefix+k] = v
	}
	if notes[setting.Prefix+"role"] == "" {
		notes[setting.Prefix+"role"] = "kafka"
	}
	raw, err := json.Marshal(map[string]any{
		"apiVersion": "apps/v1", "kind": "StatefulSet",
		"metadata": map[string]any{"name": "events", "namespace": "shop", "annotations": notes}, "spec": map[string]any{"replicas": 3},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := mutate.Expand(mutate.Input{Object: raw, Namespace: mutate.Namespace{Name: "shop"}, ClusterUID: "uid", Version: "v0"})
	if err != nil {
		t.Fatal(err)
	}
	c, ok := object.Of(out.Object)
	if !ok {
		t.Fatal("it was not expanded")
	}
	return c
}

// cases are clusters that differ in what their companions follow from.
var cases = map[string]map[string]string{
	"kraft":            nil,
	"kraft-tls-plain":  {"sasl": "plain", "tls-secret": "cert"},
	"kraft-open":       {"sasl": "none"},
	"kraft-metrics":    {"metrics": "true", "sasl-secret": "mine"},
	"own-ensemble":     {"zookeeper": "true", "zookeeper-replicas": "5", "zookeeper-storage": "3Gi", "tls-secret": "cert", "storage-class": "fast", "profile": "dev", "metrics": "true"},
	"own-ensemble-sec": {"zookeeper": "true", "sasl-secret": "mine"},
	"own-open":         {"zookeeper": "true", "sasl": "none"},
	"named-ensemble":   {"zookeeper": "zk"},
	"external":         {"zookeeper": "a.example.com:2181/x"},
	"zookeeper":        {"role": "zookeeper"},
}

// TestGolden shows all that stands beside a cluster, the passwords of applications aside.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, annotations := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t, annotations)
			var b strings.Builder
			show := func(v any) {
				text, err := yaml.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				b.WriteString("---\n" + string(text))
			}
			for _, u := range c.Companions() {
				show(u.Object)
			}
			fmt.Fprintf(&b, "---\n# SASL Secret %q, generated: %v, keys %q; TLS Secret %q; state %q\n", c.SASLSecretName(), c.OwnSASLSecret(), c.SecretKeys(), c.TLSSecret(), c.StateName())
			if c.ClientSecretName() != "" {
				s := c.ClientSecret([]byte("PASSWORD"), []byte("-----BEGIN CERTIFICATE-----\nabc=\n-----END CERTIFICATE-----\n"))
				texts := map[string]string{}
				for k, v := range s.Data {
					texts[k] = string(v)
				}
				show(map[string]any{"metadata": s.ObjectMeta, "data, decoded": texts})
			}
			path := filepath.Join("testdata", "golden", name+".yaml")
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // Test data is for everybody to read.
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil { //nolint:gosec // as above
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("(-want +got, -update writes it):\n%s", diff)
			}
		})
	}
}

// TestEnsembleIsExpanded holds that the webhook takes what is applied for the ensemble.
func TestEnsembleIsExpanded(t *testing.T) {
	t.Parallel()
	for name, annotations := range cases {
		c := cluster(t, annotations)
		for _, u := range c.Companions() {
			if u.GetKind() != "StatefulSet" {
				continue
			}
			notes := u.GetAnnotations()
			notes["metamorph.dev/applied"] = "hash"
			u.SetAnnotations(notes)
			out, err := mutate.Expand(mutate.Input{Object: mutate.Encode(u.Object), Namespace: mutate.Namespace{Name: "shop"}, ClusterUID: "uid", Version: "v0"})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			e, ok := object.Of(out.Object)
			if !ok || e.Role != setting.ZooKeeper || e.SASLSecretName() != c.SASLSecretName() || e.TLSSecret() != c.TLSSecret() {
				t.Errorf("%s: the ensemble differs in its security: %q %q", name, e.SASLSecretName(), e.TLSSecret())
			}
			if e.OwnSASLSecret() {
				t.Errorf("%s: the ensemble would make passwords of its own", name)
			}
		}
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	c := cluster(t, nil)
	seen := map[string]bool{}
	form := regexp.MustCompile(`^[A-Za-z0-9]{32}$`)
	for range 50 {
		s, err := c.NewSASLSecret()
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range s.Data {
			if !form.Match(v) || seen[string(v)] {
				t.Errorf("the password under %s is malformed, or not new", k)
			}
			seen[string(v)] = true
		}
		if missing, malformed := c.BadKeys(s.Data); len(missing)+len(malformed) > 0 || len(s.OwnerReferences) > 0 || !*s.Immutable {
			t.Errorf("%v %v %v", missing, malformed, s.ObjectMeta)
		}
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	c := cluster(t, nil)
	good := []byte("0123456789abcdef")
	for name, bad := range map[string][]byte{
		"short": good[:15], "empty": {}, "line break": append(slices.Clone(good), '\n'), "comma": append(slices.Clone(good), ','),
		"quote": append(slices.Clone(good), '"'), "not UTF-8": append(slices.Clone(good), 0xff), "umlaut": append(slices.Clone(good), "ü"...), "two lines": append(append(slices.Clone(good), '\n'), good...),
	} {
		missing, malformed := c.BadKeys(map[string][]byte{"controller": good, "broker": bad, "other": bad})
		if !slices.Equal(missing, []string{"client"}) || !slices.Equal(malformed, []string{"broker"}) {
			t.Errorf("%s: missing %v, malformed %v", name, missing, malformed)
		}
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	c := cluster(t, nil)
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"theirs": "x"}}, Data: map[string]string{"0": "a\n", "-1": "x", "notes": "y", "99999999999999999999": "z"}}
	s := object.ReadState(m)
	if diff := cmp.Diff(object.State{Ready: map[int]string{0: "a"}}, s); diff != "" {
		t.Error(diff)
	}
	s.Ready[2], s.SecretSeen = "c", true
	if !c.WriteState(m, s) || c.WriteState(m, s) {
		t.Error("a change is one, once")
	}
	if diff := cmp.Diff(map[string]string{"0": "a", "2": "c", "-1": "x", "notes": "y", "99999999999999999999": "z"}, m.Data); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(s, object.ReadState(m)); diff != "" {
		t.Error(diff)
	}
	s.Ready, s.SecretSeen = map[int]string{}, false
	if !c.WriteState(m, s) || len(m.Data) != 3 || len(m.Annotations) != 1 {
		t.Errorf("%v %v", m.Data, m.Annotations)
	}
}

// TestGone: only if every recorded volume is known and none of them is left, the past is over.
func TestGone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ready map[int]string
		uids  []string
		want  bool
	}{
		"nothing recorded":           {nil, nil, false},
		"all there":                  {map[int]string{0: "a", 1: "b"}, []string{"a", "b"}, false},
		"one left":                   {map[int]string{0: "a", 1: "b"}, []string{"b", "new"}, false},
		"all replaced":               {map[int]string{0: "a", 1: "b"}, []string{"x", "y"}, true},
		"all gone":                   {map[int]string{0: "a"}, nil, true},
		"data that is on no claim":   {map[int]string{0: "", 1: "b"}, nil, false},
		"written by somebody's hand": {map[int]string{0: "true"}, []string{"a"}, true},
	} {
		if got := (object.State{Ready: c.ready}).Gone(c.uids); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestRead: what was not expanded, or cannot be read, has no companions, and nothing panics.
func TestRead(t *testing.T) {
	t.Parallel()
	for name, notes := range map[string]map[string]string{
		"none":              nil,
		"not expanded":      {"metamorph.dev/role": "kafka"},
		"let go":            {"metamorph.dev/role": "kafka", "metamorph.dev/source": "{}", "metamorph.dev/settings": "{}", "metamorph.dev/managed": "false"},
		"tampered settings": {"metamorph.dev/role": "kafka", "metamorph.dev/source": "{}", "metamorph.dev/settings": "{"},
	} {
		if _, ok := object.Read("shop", "events", notes); ok {
			t.Errorf("%s: it counts", name)
		}
	}
	c, ok := object.Read("shop", "events", map[string]string{"metamorph.dev/role": "kafka", "metamorph.dev/source": "{}", "metamorph.dev/settings": `{"zookeeper":{"value":"::::"},"zookeeper-replicas":{"value":"many"}}`})
	if !ok || len(c.Companions()) != 3 || c.SASLSecretName() != "" {
		t.Errorf("values that cannot be read: %v", ok)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("kafka", `{"zookeeper":{"value":"true"},"zookeeper-replicas":{"value":"3"},"sasl":{"value":"plain"},"sasl-secret":{"value":"x"},"metrics":{"value":"true"}}`, "pem")
	f.Add("zookeeper", `{"zookeeper":{"value":"true"},"zookeeper-replicas":{"value":"9999999999999"}}`, "a\\\r\n\x00=b")
	f.Add("", "null", "")
	f.Fuzz(func(t *testing.T, role, settings, ca string) {
		c, ok := object.Read("shop", "events", map[string]string{"metamorph.dev/role": role, "metamorph.dev/source": "{}", "metamorph.dev/settings": settings})
		if !ok {
			return
		}
		c.Companions()
		c.SecretKeys()
		s := c.ClientSecret([]byte("password"), []byte(ca))
		for line := range strings.SplitSeq(strings.TrimSuffix(string(s.Data["client.properties"]), "\n"), "\n") {
			if key, _, ok := strings.Cut(line, "="); !ok || strings.ContainsAny(key, " \t") {
				t.Errorf("not a line of properties: %q", line)
			}
		}
	})
}
