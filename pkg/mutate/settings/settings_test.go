package settings_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/catalogue"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// fixture holds what one setting must accept, refuse and render.
type fixture struct {
	// Good values, with their canonical form.
	Good map[string]string `json:"good"`
	// Bad values, with words of the reason.
	Bad map[string]string `json:"bad"`
	// With are other settings that are set for Renders.
	With map[string]string `json:"with"`
	// Renders says what a value puts at a path of a three-node Kafka set named events; null: nothing.
	Renders []struct {
		Set  string `json:"set"`
		Path string `json:"path"`
		Is   any    `json:"is"`
	} `json:"renders"`
}

// TestSettings walks the list: every setting is documented, and has a fixture that it passes.
func TestSettings(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	stale := map[string]bool{}
	for _, f := range files {
		stale[strings.TrimSuffix(filepath.Base(f), ".yaml")] = true
	}
	seen := map[string]bool{}
	for _, d := range settings.All {
		info := d.Info()
		if seen[info.Key] || len(validation.IsDNS1123Label(info.Key)) > 0 {
			t.Errorf("%s: a key stands once, and is made of a-z, 0-9 and -", info.Key)
		}
		seen[info.Key] = true
		if info.Doc == "" {
			t.Errorf("%s has no documentation", info.Key)
		}
		if info.Internal {
			continue
		}
		if !stale[info.Key] {
			t.Errorf("%s has no fixture testdata/%s.yaml", info.Key, info.Key)
			continue
		}
		delete(stale, info.Key)
		t.Run(info.Key, func(t *testing.T) {
			t.Parallel()
			checkSetting(t, d)
		})
	}
	for key := range stale {
		t.Errorf("testdata/%s.yaml belongs to no setting", key)
	}
}

func checkSetting(t *testing.T, d setting.Definition) {
	t.Helper()
	info := d.Info()
	if info.Allowed == "" || info.Example == "" || info.Rule == "" {
		t.Error("allowed values, an example and the rule are documented")
	}
	if err := d.Valid(info.Example); err != nil {
		t.Errorf("the example %q is refused: %v", info.Example, err)
	}
	raw, err := os.ReadFile("testdata/" + info.Key + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var f fixture
	if err := yaml.UnmarshalStrict(raw, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Good) == 0 || len(f.Bad) == 0 {
		t.Error("a fixture has a good and a bad value at least")
	}
	for text, want := range f.Good {
		got, err := setting.Canonical(d, text)
		if err != nil || got != want {
			t.Errorf("%q is read as %q (%v), want %q", text, got, err, want)
		}
		if again, err := setting.Canonical(d, got); err != nil || again != got {
			t.Errorf("the canonical %q is read as %q (%v)", got, again, err)
		}
	}
	for text, want := range f.Bad {
		if err := d.Valid(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, r := range f.Renders {
		values := map[string]string{"role": "kafka", info.Key: r.Set}
		for k, v := range f.With {
			values[k] = v
		}
		rendered := render(t, setting.Kafka, values)
		var got any
		for _, p := range rendered.Paths() {
			if p.String() == r.Path && !strings.HasSuffix(string(p), leaf.Handler) {
				got, _ = rendered.Get(p)
			}
		}
		if !leaf.Equal(got, integers(r.Is)) {
			t.Errorf("%q renders %s = %v, want %v", r.Set, r.Path, got, r.Is)
		}
	}
}

// integers turns the numbers of YAML into those of raw JSON objects.
func integers(v any) any {
	switch x := v.(type) {
	case float64:
		return int64(x)
	case map[string]any:
		for k := range x {
			x[k] = integers(x[k])
		}
	case []any:
		for i := range x {
			x[i] = integers(x[i])
		}
	}
	return v
}

func resolve(values map[string]string) *setting.Resolver {
	l := &setting.Layer{Origin: setting.Origin{Layer: setting.OnObject}, Values: values}
	if p, err := settings.ParseConfig(values["config"]); err == nil {
		l.Config = map[string]string{}
		for _, k := range p.Keys() {
			l.Config[k], _ = p.Get(k)
		}
	}
	facts := setting.Facts{Name: "events", Namespace: "shop", Replicas: 3, ClusterUID: "uid"}
	r := setting.NewResolver(settings.All, setting.Role(values["role"]), facts, []*setting.Layer{l}, nil, nil)
	r.Resolve()
	return r
}

func render(t *testing.T, role setting.Role, values map[string]string) *leaf.Set {
	t.Helper()
	values["role"] = string(role)
	r := resolve(values)
	for _, p := range r.Problems() {
		t.Error(p)
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(settings.Render(r, nil))
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Of(tree, nil)
}

// TestSupportedVersions keeps the supported lines and the catalogues in step.
func TestSupportedVersions(t *testing.T) {
	t.Parallel()
	for role, minors := range map[setting.Role][]string{setting.Kafka: catalogue.KafkaMinors(), setting.ZooKeeper: catalogue.ZooKeeperMinors()} {
		var got []string
		for _, v := range settings.Supported(role) {
			got = append(got, v.Line())
			c, ok := catalogue.Kafka(v.Line())
			if role == setting.ZooKeeper {
				c, ok = catalogue.ZooKeeper(v.Line())
			}
			if !ok || c.Version != v.String() {
				t.Errorf("%s %s: the catalogue is of %v", role, v, c)
			}
		}
		if diff := cmp.Diff(minors, got); diff != "" {
			t.Errorf("%s (-catalogue +supported):\n%s", role, diff)
		}
	}
}

// TestRenderedProperties holds every rendered line against the catalogue of its version, in all combinations.
func TestRenderedProperties(t *testing.T) {
	t.Parallel()
	for _, role := range setting.Roles {
		for _, v := range settings.Supported(role) {
			for _, sasl := range []string{"scram-sha-512", "scram-sha-256", "plain", "none"} {
				for _, tls := range []string{"", "certs"} {
					for _, zk := range []string{"", "true", "zk", "a:1/x"} {
						if zk != "" && (role == setting.ZooKeeper || v.AtLeast(4, 0)) {
							continue
						}
						values := map[string]string{"version": v.String(), "sasl": sasl, "metrics": "true"}
						if tls != "" {
							values["tls-secret"] = tls
						}
						if zk != "" {
							values["zookeeper"] = zk
						}
						checkProperties(t, role, v, values)
					}
				}
			}
		}
	}
}

func checkProperties(t *testing.T, role setting.Role, v settings.Release, values map[string]string) {
	t.Helper()
	c, _ := catalogue.Kafka(v.Line())
	file := setting.Prefix + "server.properties"
	if role == setting.ZooKeeper {
		c, _ = catalogue.ZooKeeper(v.Line())
		file = setting.Prefix + "zoo.cfg"
	}
	rendered := render(t, role, values)
	n := 0
	for _, p := range rendered.Paths() {
		s := p.Segments()
		if len(s) < 2 || s[len(s)-2] != file {
			continue
		}
		n++
		value, _ := rendered.Get(p)
		if err := c.Check(s[len(s)-1][1:], value.(string)); err != nil {
			t.Errorf("%s %s %v: %s = %v: %v", role, v, values, p, value, err)
		}
	}
	if n < 10 {
		t.Errorf("%s %s %v: only %d lines", role, v, values, n)
	}
}

// TestNearest finds what was meant.
func TestNearest(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"heapsize": "heap", "replicaton-factor": "replication-factor", "Heap": "heap", "storage_class": "storage-class", "rf": "replication-factor",
		"tls": "tls-secret", "xyzzy": "", "retentionbytes": "retention-bytes", "minInsyncReplicas": "min-insync-replicas",
	} {
		if got := settings.NearestKey(key, setting.Kafka); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if slices.Contains(settings.Keys(setting.ZooKeeper), "partitions") || !slices.Contains(settings.Keys(""), "partitions") {
		t.Error("partitions is Kafka's")
	}
}

// FuzzValues throws arbitrary text at every setting: what is accepted has a canonical form that is accepted as itself.
func FuzzValues(f *testing.F) {
	for _, d := range settings.All {
		f.Add(d.Info().Example)
	}
	for _, s := range []string{"10Gb", "-Xmx9223372036854775807t", "1e30", "\x00", "٣", "999999999999w", "a:2181/..", "a=b\\\n", "=", "0x10", "1_000", "+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range settings.All {
			got, err := setting.Canonical(d, text)
			if err != nil {
				continue
			}
			if again, err := setting.Canonical(d, got); err != nil || again != got {
				t.Errorf("%s: %q is read as %q, and that as %q (%v)", d.Info().Key, text, got, again, err)
			}
		}
	})
}
