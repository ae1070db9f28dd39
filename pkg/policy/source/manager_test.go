package source_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/policy/source"
)

func rego(code, pkg string) string {
	return "# METADATA\n# title: a test\n# custom:\n#   code: " + code + "\npackage acme." + pkg + "\n\ndeny contains \"found\" if input.role == \"kafka\"\n"
}

func manager(t *testing.T, changed func(string, source.Status)) (*source.Manager, *policy.Engine) {
	t.Helper()
	engine := &policy.Engine{}
	m, err := source.NewManager(engine, &policy.Loader{}, changed, &policy.Source{Name: "builtin", Builtin: true, Files: map[string]string{"b.rego": rego("MM301", "builtin")}})
	if err != nil {
		t.Fatal(err)
	}
	return m, engine
}

// found lists what is found in a Kafka set, and what follows.
func found(engine *policy.Engine) string {
	v := policy.NewView(policy.Input{
		Operation: policy.Create, Role: "kafka", Object: map[string]any{"kind": "StatefulSet", "metadata": map[string]any{"name": "events"}}, Now: time.Now(),
	})
	var out []string
	for _, f := range engine.Set().Evaluate(context.Background(), v, policy.Options{}) {
		out = append(out, f.Code+" "+f.Action.String())
	}
	return strings.Join(out, ", ")
}

// TestManager walks through the life of sources; each step says what is in force after it.
func TestManager(t *testing.T) {
	t.Parallel()
	m, engine := manager(t, nil)
	for _, step := range []struct {
		name   string
		source string
		files  map[string]string
		err    string
		want   string
	}{
		{"the built-in ones", "", nil, "", "MM301 deny"},
		{"one more", "ours", map[string]string{"a.rego": rego("ACME-1", "a")}, "", "ACME-1 deny, MM301 deny"},
		{"broken, it stays", "ours", map[string]string{"a.rego": "package"}, "a.rego:1: rego_parse_error", "ACME-1 deny, MM301 deny"},
		{"still broken", "ours", map[string]string{"a.rego": "package"}, "a.rego:1: rego_parse_error", "ACME-1 deny, MM301 deny"},
		{"empty, it stays", "ours", map[string]string{"readme.md": "x"}, "holds neither a .rego file nor config.yaml", "ACME-1 deny, MM301 deny"},
		{"mended", "ours", map[string]string{"a.rego": rego("ACME-2", "a")}, "", "ACME-2 deny, MM301 deny"},
		{"another source with the same code", "yours", map[string]string{"b.rego": rego("ACME-2", "b")}, "the code ACME-2 is that of a.rego (ours) already", "ACME-2 deny, MM301 deny"},
		{"a built-in code", "yours", map[string]string{"b.rego": rego("MM301", "b")}, "are Metamorph's own", "ACME-2 deny, MM301 deny"},
		{"tuning", "tuning", map[string]string{"config.yaml": "policies: {ACME-2: {action: warn}, MM301: {action: off}}"}, "", "ACME-2 warn"},
		{"broken tuning stays", "tuning", map[string]string{"config.yaml": "policies: {ACME-2: {action: what}}"}, `"what" is not an action`, "ACME-2 warn"},
		{"a parameter that does not exist", "tuning", map[string]string{"config.yaml": "policies: {ACME-2: {parameters: {x: 1}}}"}, "there is no such parameter", "ACME-2 warn"},
		{"both in one", "ours", map[string]string{"a.rego": rego("ACME-3", "a"), "config.yaml": "policies: {ACME-3: {action: audit}}"}, "", "MM301 deny, ACME-3 audit"}, // and the tuning fits, now that nobody has ACME-2
		{"what is tuned is gone", "ours", nil, "", "MM301 deny"},
		{"the tuning is gone", "tuning", nil, "", "MM301 deny"},
	} {
		var err error
		switch {
		case step.source == "":
		case step.files == nil:
			err = m.Remove(step.source)
		default:
			err = m.Put(step.source, step.files)
		}
		if (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) {
			t.Errorf("%s: got %v, want %q", step.name, err, step.err)
		}
		if got := found(engine); got != step.want {
			t.Errorf("%s: %q is in force, want %q", step.name, got, step.want)
		}
	}
}

// TestManagerTriesAgain holds that a source which was refused because of another comes into force once that one lets it.
func TestManagerTriesAgain(t *testing.T) {
	t.Parallel()
	m, engine := manager(t, nil)
	put := func(name string, files map[string]string) {
		t.Helper()
		_ = m.Put(name, files)
	}
	put("ours", map[string]string{"a.rego": rego("ACME-1", "a")})
	put("yours", map[string]string{"b.rego": rego("ACME-1", "b")})
	if s := m.Statuses()["yours"]; s.Ready || len(s.Problems) != 1 {
		t.Errorf("got %+v", s)
	}
	if err := m.Remove("ours"); err != nil {
		t.Error(err)
	}
	if got := found(engine); got != "ACME-1 deny, MM301 deny" || !m.Statuses()["yours"].Ready {
		t.Errorf("%q is in force, %+v", got, m.Statuses())
	}
	// A tuning that does not fit a policy keeps it out, until the tuning is mended.
	put("a-tuning", map[string]string{"config.yaml": "policies: {ACME-2: {action: warn, parameters: {x: 1}}}"})
	if s := m.Statuses()["a-tuning"]; !s.Ready || len(s.Warnings) != 1 {
		t.Errorf("got %+v", s)
	}
	put("z", map[string]string{"c.rego": rego("ACME-2", "c")})
	if s := m.Statuses()["z"]; s.Ready {
		t.Errorf("got %+v", s)
	}
	put("a-tuning", map[string]string{"config.yaml": "policies: {ACME-2: {action: warn}}"})
	if got := found(engine); got != "ACME-1 deny, MM301 deny, ACME-2 warn" || !m.Statuses()["z"].Ready || len(m.Statuses()["a-tuning"].Warnings) > 0 {
		t.Errorf("%q is in force, %+v", got, m.Statuses())
	}
}

func TestStatusesAreShort(t *testing.T) {
	t.Parallel()
	m, _ := manager(t, nil)
	_ = m.Put("ours", map[string]string{"config.yaml": "policies: {" + strings.Repeat("A: {b: 1}, ", 1000) + "}"})
	if n := len(m.Statuses()["ours"].Problems); n > 21 {
		t.Errorf("%d problems", n)
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	var told []string
	m, _ := manager(t, func(name string, s source.Status) {
		told = append(told, name+" "+map[bool]string{true: "ready", false: "not"}[s.Ready])
	})
	_ = m.Put("ours", map[string]string{"a.rego": rego("ACME-1", "a"), "config.yaml": "policies: {ACME-9: {action: warn}}"})
	good := m.Statuses()["ours"]
	want := source.Status{
		Ready: true, Policies: []string{"ACME-1"}, Configuration: true, Digest: good.Digest,
		Warnings: []policy.Problem{{Source: "configuration", Message: "policies[ACME-9]: there is no policy ACME-9"}},
	}
	if diff := cmp.Diff(want, good, cmpopts.IgnoreUnexported(source.Status{})); diff != "" {
		t.Errorf("status (-want +got)\n%s", diff)
	}
	bad := map[string]string{"a.rego": "package a\n\nfoo"}
	_ = m.Put("ours", bad)
	_ = m.Put("ours", bad) // the same again is no news
	got := m.Statuses()["ours"]
	if got.Ready || len(got.Problems) == 0 || got.Problems[0].File != "a.rego" || got.Problems[0].Line != 3 || !cmp.Equal(got.Policies, []string{"ACME-1"}) || got.Digest == good.Digest {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{"ours ready", "ours not"}, told); diff != "" {
		t.Errorf("told (-want +got)\n%s", diff)
	}
}

// TestStorm reloads as fast as it can while requests are judged.
func TestStorm(t *testing.T) {
	t.Parallel()
	m, engine := manager(t, nil)
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			name := string(rune('a' + i))
			for n := range 30 {
				switch n % 3 {
				case 0:
					_ = m.Put(name, map[string]string{"a.rego": rego("ACME-"+strings.ToUpper(name), name)})
				case 1:
					_ = m.Put(name, map[string]string{"a.rego": "package"})
				default:
					_ = m.Remove(name)
				}
			}
		})
	}
	all.Go(func() {
		for range 300 {
			if got := found(engine); !strings.Contains(got, "MM301 deny") || strings.Contains(got, policy.ErrorCode) {
				t.Errorf("got %q", got)
				return
			}
		}
	})
	all.Wait()
	if got := found(engine); got != "MM301 deny" {
		t.Errorf("%q is in force at the end", got)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := source.ReadFolder(dir); err == nil || !strings.Contains(err.Error(), "there is no .rego file") {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := source.ReadFolder(filepath.Join(dir, "absent")); err == nil {
		t.Error("an absent folder was read")
	}
	put("one/one.rego", "1")
	put("one/config.yaml", "not ours")
	put("config.yaml", "ours")
	put("readme.md", "no")
	put("..data/hidden.rego", "no")
	files, err := source.ReadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{filepath.ToSlash(filepath.Join(dir, "one", "one.rego")): "1", "config.yaml": "ours"}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}
}

// TestWatchFolder exchanges a folder's files behind a link, as the kubelet does.
func TestWatchFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "a.rego"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", rego("ACME-1", "a"))
	if err := os.Symlink("..data/a.rego", filepath.Join(dir, "a.rego")); err != nil {
		t.Fatal(err)
	}
	statuses := make(chan source.Status, 10)
	m, engine := manager(t, func(_ string, s source.Status) { statuses <- s })
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	failures := make(chan error, 10)
	watching.Go(func() { m.WatchFolder(ctx, dir, time.Millisecond, func(err error) { failures <- err }) })
	if s := <-statuses; !s.Ready {
		t.Errorf("got %+v", s)
	}
	version("..2", rego("ACME-2", "a"))
	<-statuses
	if got := found(engine); got != "ACME-2 deny, MM301 deny" {
		t.Errorf("%q is in force", got)
	}
	version("..3", "package")
	if err := <-failures; !strings.Contains(err.Error(), "rego_parse_error") {
		t.Errorf("got %v", err)
	}
	if got := found(engine); got != "ACME-2 deny, MM301 deny" {
		t.Errorf("%q is in force", got)
	}
	cancel()
	watching.Wait()
}
