package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	cluster := func(obj object, ns string) object { return with(obj, "namespace", ns) }
	for name, c := range map[string]struct {
		sets    []object
		config  string
		want    Summary
		told    []string
		noFound []string
	}{
		"nothing": {want: Summary{}},
		"a Kafka that nobody annotated": {
			sets: []object{plain("old", "apache/kafka:3.9.0", nil), plain("web", "nginx", nil)},
			want: Summary{Objects: 2, Roles: map[string]int{"plain": 2}, Findings: map[policy.Action]int{policy.Audit: 1}, Events: 1},
			told: []string{"a/old PolicyAudit: c runs apache/kafka:3.9.0 (TEST-2)"},
		},
		"a managed Kafka, the worst first": {
			sets: []object{kafka(t, "events", object{"warn": "a little", "deny": "very bad"})},
			want: Summary{Objects: 1, Roles: map[string]int{"kafka": 1}, Findings: map[policy.Action]int{policy.Deny: 1, policy.Warn: 1}, Events: 1},
			told: []string{"a/events PolicyDeny: metadata.labels[deny]: very bad (TEST-1); metadata.labels[warn]: a little (TEST-1)"},
		},
		"an exception, which is told all the same": {
			sets:   []object{plain("x", "x", object{"deny": "very bad"})},
			config: "exceptions: [{policy: TEST-1, reason: until the move, expires: 2027-01-31}]",
			want:   Summary{Objects: 1, Roles: map[string]int{"plain": 1}, Findings: map[policy.Action]int{policy.Audit: 1}, Excepted: 1, Events: 1},
			told:   []string{"a/x PolicyAudit: metadata.labels[deny]: very bad; excepted until 2027-01-31: until the move (TEST-1)"},
		},
		"an exception that is over": {
			sets:   []object{plain("x", "x", object{"deny": "very bad"})},
			config: "exceptions: [{policy: TEST-1, reason: until the move, expires: 2025-12-31}]",
			want:   Summary{Objects: 1, Roles: map[string]int{"plain": 1}, Findings: map[policy.Action]int{policy.Deny: 1}, Events: 1},
			told:   []string{"a/x PolicyDeny: metadata.labels[deny]: very bad (TEST-1)"},
		},
		"the labels of the namespace": {
			sets: []object{plain("x", "x", object{"team": "?"})},
			want: Summary{Objects: 1, Roles: map[string]int{"plain": 1}, Findings: map[policy.Action]int{policy.Warn: 1}, Events: 1},
			told: []string{"a/x PolicyWarn: metadata.annotations[metamorph.dev/heap]: the namespace is of red (TEST-1)"},
		},
		"annotated and never expanded": {
			sets: []object{with(plain("x", "x", nil), "annotations", object{"metamorph.dev/role": "kafka"})},
			want: Summary{Objects: 1, Roles: map[string]int{"kafka": 1}, Findings: map[policy.Action]int{policy.Deny: 1}, Events: 1},
			told: []string{`a/x PolicyDeny: metadata.annotations[metamorph.dev/role]: "kafka": an annotated StatefulSet that nobody expanded. ` +
				`The mutating webhook was not called: see whether its registration, 00-metamorph, is there and covers the namespace. Then apply again. (MM206)`},
		},
		"a role that does not exist": {
			sets: []object{with(plain("x", "x", nil), "annotations", object{"metamorph.dev/role": "cassandra"})},
			want: Summary{Objects: 1, Roles: map[string]int{"other": 1}, Findings: map[policy.Action]int{policy.Deny: 1}, Events: 1},
			told: []string{`a/x PolicyDeny: metadata.annotations[metamorph.dev/role]: "cassandra": an annotated StatefulSet that nobody expanded. ` +
				`The mutating webhook was not called: see whether its registration, 00-metamorph, is there and covers the namespace. Then apply again. (MM206)`},
		},
		"what is nobody's business": {
			sets: []object{
				with(plain("let-go", "kafka", nil), "annotations", object{"metamorph.dev/cluster-id": "x"}),
				with(plain("letting-go", "kafka", nil), "annotations", object{"metamorph.dev/managed": "false", "metamorph.dev/role": "kafka"}),
				with(plain("dying", "kafka", nil), "deletionTimestamp", "2026-01-01T00:00:00Z"),
				cluster(plain("x", "kafka", nil), "kube-system"), cluster(plain("x", "kafka", nil), "metamorph-system"),
			},
			want:    Summary{},
			noFound: []string{"a/let-go", "a/letting-go", "a/dying", "kube-system/x", "metamorph-system/x"},
		},
		"what cannot be judged is no matter of the others": {
			sets: []object{
				cluster(plain("x", "kafka", nil), "unknown"), cluster(plain("x", "kafka", nil), "panic"),
				plain("good", "kafka", nil),
			},
			want: Summary{Objects: 1, Roles: map[string]int{"plain": 1}, Findings: map[policy.Action]int{policy.Audit: 1}, Events: 1, Errors: 2},
			told: []string{"a/good PolicyAudit: c runs kafka (TEST-2)"},
		},
		"a policy that fails is counted, and no Event about the object": {
			sets: []object{plain("x", "x", object{"broken": "not a number"})},
			want: Summary{Objects: 1, Roles: map[string]int{"plain": 1}, Findings: map[policy.Action]int{policy.Deny: 1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, c.sets...)
			f.use(c.config)
			got := f.audit()
			if d := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("-want +got:\n%s\nlog:\n%s", d, f.log)
			}
			if d := cmp.Diff(c.told, f.told(), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("Events: -want +got:\n%s", d)
			}
			if len(f.found) != c.want.Objects {
				t.Errorf("the hook was told of %v, want %d objects", f.found, c.want.Objects)
			}
			for _, n := range c.noFound {
				if _, ok := f.found[n]; ok {
					t.Errorf("%s was judged", n)
				}
			}
			if strings.Contains(f.log.String(), "hunter2") {
				t.Errorf("the log holds the value of a panic:\n%s", f.log)
			}
			if n := strings.Count(f.log.String(), `"msg"="Audit"`); n != 1 {
				t.Errorf("%d summaries:\n%s", n, f.log)
			}
		})
	}
}

// TestEvent holds what an API server asks of an Event.
func TestEvent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 60) + strings.Repeat(".b", 96)
	f := newFixture(t, plain("old", "kafka", nil), plain(long, "kafka", nil))
	f.audit()
	all := f.newEvents()
	if len(all) != 2 {
		t.Fatalf("%d Events", len(all))
	}
	e := all[0]
	if e.Type != "Warning" || e.Action != "Audit" || e.ReportingController != Controller || e.ReportingInstance != "test" || e.Namespace != "a" || !e.EventTime.Time.Equal(f.clock.Now()) {
		t.Errorf("%+v", e)
	}
	if r := e.Regarding; r.Kind != "StatefulSet" || r.APIVersion != "apps/v1" || r.UID != "uid-old" || r.ResourceVersion != "7" {
		t.Errorf("%+v", r)
	}
	if !strings.HasPrefix(e.Name, "old.") || len(all[1].Name) > 253 || strings.Contains(all[1].Name, "..") {
		t.Errorf("names %s, %s", e.Name, all[1].Name)
	}
}

// TestNote: what there is room for, and how many more.
func TestNote(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		labels         object
		prefix, suffix string
	}{
		"many findings":            {object{"many": "200"}, "number 1 of many (TEST-1); number 10 of many (TEST-1); ", "of many (TEST-1) … and 166 more"},
		"one that is too long":     {object{"deny": strings.Repeat("é", 2000)}, "metadata.labels[deny]: éé", "é… (TEST-1)"},
		"one that is long, others": {object{"deny": strings.Repeat("x", 2000), "many": "3"}, "metadata.labels[deny]: xx", "x… (TEST-1) … and 3 more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, plain("x", "x", c.labels))
			f.audit()
			note := f.newEvents()[0].Note
			if !strings.HasPrefix(note, c.prefix) || !strings.HasSuffix(note, c.suffix) || len(note) > maxNote || len(note) < maxNote*9/10 {
				t.Errorf("%d bytes: %s", len(note), note)
			}
		})
	}
}

func TestEventsTellOfChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := func(labels object) object { return plain("a", "x", labels) }
	b := plain("b", "x", object{"warn": "b"})
	for _, step := range []struct {
		name string
		sets []object
		want []string
	}{
		{"news", []object{a(object{"deny": "one"}), b}, []string{"a/a PolicyDeny: metadata.labels[deny]: one (TEST-1)", "a/b PolicyWarn: metadata.labels[warn]: b (TEST-1)"}},
		{"nothing new", []object{a(object{"deny": "one"}), b}, nil},
		{"nothing new, in another order", []object{b, a(object{"deny": "one", "unrelated": "x"})}, nil},
		{"a change", []object{a(object{"deny": "two"}), b}, []string{"a/a PolicyDeny: metadata.labels[deny]: two (TEST-1)"}},
		{"back again", []object{a(object{"deny": "one"}), b}, []string{"a/a PolicyDeny: metadata.labels[deny]: one (TEST-1)"}},
		{"mended", []object{a(nil), b}, nil},
		{"another fault", []object{a(object{"deny": "three"}), b}, []string{"a/a PolicyDeny: metadata.labels[deny]: three (TEST-1)"}},
		{"gone", []object{b}, nil},
	} {
		f.set(step.sets...)
		before := len(f.api.events)
		s := f.audit()
		var got []string
		for _, e := range f.api.events[before:] {
			got = append(got, fmt.Sprintf("%s/%s %s: %s", e.Regarding.Namespace, e.Regarding.Name, e.Reason, e.Note))
		}
		if d := cmp.Diff(step.want, got); d != "" || s.Events != len(step.want) {
			t.Errorf("%s: %d Events; -want +got:\n%s", step.name, s.Events, d)
		}
	}
	if n := len(f.Auditor.told); n != 1 {
		t.Errorf("%d objects are remembered, want 1", n)
	}
}

// TestEventsOfAnotherReplica: what the last leader told an hour ago or less is not told again.
func TestEventsOfAnotherReplica(t *testing.T) {
	t.Parallel()
	f := newFixture(t, plain("a", "x", object{"deny": "one"}))
	f.audit()
	f.Auditor.told = nil // as in a process that has just started
	if s := f.audit(); s.Events != 0 || s.Errors != 0 {
		t.Errorf("%+v", s)
	}
	if n := len(f.newEvents()); n != 1 {
		t.Errorf("%d Events, want 1", n)
	}
}

// TestEventsAreBounded: denials first; what there is no room for comes with the next audits.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	var sets []object
	for i := range 150 {
		labels := object{"warn": "w"}
		if i%10 == 9 {
			labels = object{"deny": "d"}
		}
		sets = append(sets, plain(fmt.Sprintf("set-%03d", i), "x", labels))
	}
	f := newFixture(t, sets...)
	f.MaxEvents = 20
	want := [][2]int{{15, 5}, {0, 20}, {0, 20}, {0, 20}, {0, 20}, {0, 20}, {0, 20}, {0, 10}, {0, 0}}
	seen := map[string]bool{}
	for i, w := range want {
		s := f.audit()
		got := f.newEvents()
		denials := 0
		for j, e := range got {
			if seen[e.Regarding.Name] {
				t.Errorf("audit %d: %s is told twice", i, e.Regarding.Name)
			}
			seen[e.Regarding.Name] = true
			if e.Reason == "PolicyDeny" {
				denials++
				if j >= w[0] {
					t.Errorf("audit %d: a denial after a warning", i)
				}
			}
		}
		if denials != w[0] || len(got)-denials != w[1] || s.Events != len(got) || s.Postponed != 150-len(seen) {
			t.Errorf("audit %d: %d denials and %d warnings, %d postponed; want %v", i, denials, len(got)-denials, s.Postponed, w)
		}
	}
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(`
# HELP metamorph_audit_events_total Events about changed findings, by result (written, postponed to the next audit).
# TYPE metamorph_audit_events_total counter
metamorph_audit_events_total{result="postponed"} 490
metamorph_audit_events_total{result="written"} 150
`), "metamorph_audit_events_total"); err != nil {
		t.Error(err)
	}
}

// TestEventsThatCannotBeWritten are told later, and not all of them are tried.
func TestEventsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	var sets []object
	for i := range 10 {
		sets = append(sets, plain(fmt.Sprint("set-", i), "x", object{"deny": "d"}))
	}
	f := newFixture(t, sets...)
	f.api.refuse = http.StatusForbidden
	if s := f.audit(); s.Events != 0 || s.Errors != maxFailures || s.Postponed != 10-maxFailures {
		t.Errorf("%+v", s)
	}
	f.api.refuse = 0
	if s := f.audit(); s.Events != 10 || s.Errors != 0 {
		t.Errorf("%+v", s)
	}
}

func TestNoSecrets(t *testing.T) {
	t.Parallel()
	set := plain("x", "x", object{"leak": "yes"})
	container := set["spec"].(object)["template"].(object)["spec"].(object)["containers"].([]any)[0].(object)
	container["env"] = []any{
		object{"name": "KAFKA_CLIENT_PASSWORD", "value": "hunter2"},
		object{"name": "LEVEL", "value": "INFO"},
		object{"name": "OPTS", "value": `-Dx.password=hunter22 -Dy=1 required username="a" password="correct horse";`},
		object{"name": "SASL_PASSWORD_FILE", "value": "${dir:/etc/sasl:client}"},
	}
	container["args"] = []any{"--override", "ssl.key.password=battery staple", "--token: s3cr3t-token"}
	f := newFixture(t, set)
	f.audit()
	note := f.newEvents()[0].Note
	for _, secret := range []string{"hunter2", "hunter22", "correct horse", "battery", "s3cr3t"} {
		if strings.Contains(note, secret) {
			t.Errorf("%s is in the note: %s", secret, note)
		}
	}
	for _, fine := range []string{"INFO", "-Dy=1", `username=\"a\"`, "${dir:/etc/sasl:client}"} {
		if !strings.Contains(note, fine) {
			t.Errorf("%s is not in the note: %s", fine, note)
		}
	}
	if strings.Contains(fmt.Sprint(f.found), "hunter2") {
		t.Errorf("the hook is told: %v", f.found)
	}
}

// many are sets over three pages and a bit.
func many() (all []object) {
	for i := range 3*pageSize + 1 {
		all = append(all, plain(fmt.Sprintf("set-%03d", i), "x", object{"warn": "w"}))
	}
	return all
}

func TestPages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// fail answers the nth request for a page.
		fail       map[int]int
		pages      []string
		objects    int
		incomplete func(error) bool
	}{
		"all":                     {nil, []string{"", "100", "200", "300"}, 301, nil},
		"expired once":            {map[int]int{2: http.StatusGone}, []string{"", "100", "200", "", "100", "200", "300"}, 301, nil},
		"expired twice":           {map[int]int{2: http.StatusGone, 5: http.StatusGone}, []string{"", "100", "200", "", "100", "200"}, 200, apierrors.IsResourceExpired},
		"a page that fails":       {map[int]int{1: http.StatusForbidden}, []string{"", "100"}, 100, apierrors.IsForbidden},
		"a first page that fails": {map[int]int{0: http.StatusInternalServerError}, []string{""}, 0, apierrors.IsInternalError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, many()...)
			f.MaxEvents = 1000
			f.audit()
			f.api.mu.Lock()
			f.api.pages, f.api.events = nil, nil
			n := -1
			f.api.page = func(string) int { n++; return c.fail[n] }
			f.api.mu.Unlock()
			s, err := f.RunOnce(t.Context())
			if c.incomplete != nil && !c.incomplete(err) || c.incomplete == nil && err != nil || s.Incomplete != (c.incomplete != nil) {
				t.Errorf("incomplete %v: %v", s.Incomplete, err)
			}
			if s.Objects != c.objects || !slices.Equal(f.api.pages, c.pages) {
				t.Errorf("%d objects, pages %q", s.Objects, f.api.pages)
			}
			// What was told of the objects that were not seen is not forgotten, and not told again.
			f.api.page = nil
			if s := f.audit(); s.Events != 0 || len(f.newEvents()) != 0 || s.Objects != 301 {
				t.Errorf("afterwards: %+v", s)
			}
			results := map[string]float64{"complete": 3, "incomplete": 0}
			if c.incomplete != nil {
				results = map[string]float64{"complete": 2, "incomplete": 1}
			}
			for result, n := range results {
				if got := testutil.ToFloat64(f.Metrics.audits.WithLabelValues(result)); got != n {
					t.Errorf("%v audits are %s, want %v", got, result, n)
				}
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, many()...)
	ctx, cancel := context.WithCancel(t.Context())
	judged := 0
	f.Findings = func(string, string, []policy.Finding) {
		if judged++; judged == 150 {
			cancel()
		}
	}
	s, err := f.RunOnce(ctx)
	if !errors.Is(err, context.Canceled) || !s.Incomplete || s.Objects != 150 || s.Events != 0 || s.Errors != 0 {
		t.Errorf("%+v: %v", s, err)
	}
	if n := len(f.newEvents()); n != 0 {
		t.Errorf("%d Events by somebody who is not the leader any more", n)
	}
	f.Findings = nil
	if s := f.audit(); s.Objects != 301 || s.Events != DefaultMaxEvents {
		t.Errorf("afterwards: %+v", s)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, many()...)
	f.PagesPerSecond = 0
	done := make(chan error, 1)
	go func() { _, err := f.RunOnce(t.Context()); done <- err }()
	for page := range 3 {
		waitFor(t, f.clock.HasWaiters)
		if n := len(f.asked()); n != page+1 {
			t.Errorf("%d pages without a pause, want %d", n, page+1)
		}
		f.clock.Step(time.Second/DefaultPagesPerSecond - time.Millisecond)
		if !f.clock.HasWaiters() {
			t.Error("the pause is too short")
		}
		f.clock.Step(time.Millisecond)
	}
	if err := <-done; err != nil || len(f.asked()) != 4 {
		t.Errorf("%d pages: %v", len(f.asked()), err)
	}
}

func (f *fixture) asked() []string {
	f.api.mu.Lock()
	defer f.api.mu.Unlock()
	return slices.Clone(f.api.pages)
}

// waitFor waits for something that takes a moment.
func waitFor(tb testing.TB, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			tb.Fatal("not within a minute")
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t, plain("x", "x", object{"deny": "d"}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(ctx)
	}()
	for i, delay := range []time.Duration{DefaultDelay, DefaultInterval, DefaultInterval} {
		waitFor(t, f.clock.HasWaiters)
		f.clock.Step(delay - time.Millisecond)
		if n := len(f.asked()); n != i {
			t.Errorf("%d audits after %s, want %d", n, delay, i)
		}
		f.clock.Step(delay/10 + time.Millisecond)
		waitFor(t, func() bool { return len(f.asked()) == i+1 })
	}
	waitFor(t, f.clock.HasWaiters)
	if n := testutil.CollectAndCount(f.Metrics.findings); n != 1 {
		t.Errorf("%d series of findings", n)
	}
	cancel()
	<-ended
	for _, name := range []string{"findings", "objects", "duration_seconds", "last_success_timestamp_seconds"} {
		if n, err := testutil.GatherAndCount(f.registry, "metamorph_audit_"+name); n != 0 || err != nil {
			t.Errorf("%d series of %s are shown by somebody who is not the leader any more: %v", n, name, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	f := newFixture(t, plain("a", "kafka", object{"deny": "d"}), kafka(t, "b", object{"warn": "w", "deny": "d"}), plain("c", "x", object{"deny": "d"}))
	f.use("exceptions: [{policy: TEST-1, object: c, reason: x, expires: 2027-01-31}]")
	f.audit()
	expect := func(want string) {
		t.Helper()
		const help = `
# HELP metamorph_audit_excepted_findings Findings of the last complete audit that an exception lowered to audit, by code.
# TYPE metamorph_audit_excepted_findings gauge
# HELP metamorph_audit_findings What the last complete audit found, by code and by what follows from it at admission (deny, warn, audit).
# TYPE metamorph_audit_findings gauge
# HELP metamorph_audit_last_success_timestamp_seconds When the last complete audit ended, in seconds since 1970.
# TYPE metamorph_audit_last_success_timestamp_seconds gauge
# HELP metamorph_audit_objects StatefulSets that the last complete audit judged, by role (kafka, zookeeper, plain, other).
# TYPE metamorph_audit_objects gauge
`
		names := []string{"metamorph_audit_excepted_findings", "metamorph_audit_findings", "metamorph_audit_last_success_timestamp_seconds", "metamorph_audit_objects"}
		if err := testutil.GatherAndCompare(f.registry, strings.NewReader(help+want), names...); err != nil {
			t.Error(err)
		}
	}
	first := `
metamorph_audit_excepted_findings{code="TEST-1"} 1
metamorph_audit_findings{action="audit",code="TEST-1"} 1
metamorph_audit_findings{action="audit",code="TEST-2"} 1
metamorph_audit_findings{action="deny",code="TEST-1"} 2
metamorph_audit_findings{action="warn",code="TEST-1"} 1
metamorph_audit_last_success_timestamp_seconds 1.7672256e+09
metamorph_audit_objects{role="kafka"} 1
metamorph_audit_objects{role="other"} 0
metamorph_audit_objects{role="plain"} 2
metamorph_audit_objects{role="zookeeper"} 0
`
	expect(first)

	// A part says nothing about all.
	f.api.page = func(string) int { return http.StatusForbidden }
	f.clock.Step(time.Minute)
	if _, err := f.RunOnce(t.Context()); err == nil {
		t.Error("no error")
	}
	expect(first)
	f.api.page = nil

	// What is mended is not shown any more.
	f.use("")
	f.set(plain("c", "x", object{"deny": "d"}))
	f.audit()
	expect(`
metamorph_audit_findings{action="deny",code="TEST-1"} 1
metamorph_audit_last_success_timestamp_seconds 1.76722566e+09
metamorph_audit_objects{role="kafka"} 0
metamorph_audit_objects{role="other"} 0
metamorph_audit_objects{role="plain"} 1
metamorph_audit_objects{role="zookeeper"} 0
`)
	if problems, err := testutil.GatherAndLint(f.registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// TestNothingOptional: an auditor with what is required and no more.
func TestNothingOptional(t *testing.T) {
	t.Parallel()
	f := newFixture(t, plain("x", "x", object{"deny": "d"}))
	a := &Auditor{Reader: f.Reader, Reviewer: f.Reviewer, Namespaces: f.Namespaces}
	if s, err := a.RunOnce(t.Context()); err != nil || s.Objects != 1 || s.Findings[policy.Deny] != 1 || s.Events != 0 {
		t.Errorf("%+v: %v", s, err)
	}
	if a.instance() == "" {
		t.Error("nobody found it")
	}
}

// badReader has a page with an item that is no object.
type badReader struct{}

func (badReader) Page(context.Context, int, string) (*Page, error) {
	return &Page{Items: []json.RawMessage{json.RawMessage(`["hunter2"]`), json.RawMessage(`{"metadata":{"name":"x","namespace":"a"}}`)}}, nil
}

func TestNoObject(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Reader = badReader{}
	if s := f.audit(); s.Objects != 1 || s.Errors != 1 {
		t.Errorf("%+v", s)
	}
	if got := testutil.ToFloat64(f.Metrics.errors.WithLabelValues(reasonDecode)); got != 1 {
		t.Errorf("%v errors are counted", got)
	}
	if strings.Contains(f.log.String(), "hunter2") {
		t.Errorf("the log holds what was sent:\n%s", f.log)
	}
}

type certificates struct{ asked []string }

func (c *certificates) Certificate(_ context.Context, namespace, secret string) {
	c.asked = append(c.asked, namespace+"/"+secret)
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	set := kafka(t, "events", nil)
	notes := set["metadata"].(object)["annotations"].(object)
	notes["metamorph.dev/settings"] = `{"tls-secret":{"value":"events-tls"}}`
	f := newFixture(t, set, kafka(t, "plaintext", nil), plain("x", "x", nil))
	c := &certificates{}
	f.Certificates = c
	f.audit()
	if want := []string{"a/events-tls"}; !slices.Equal(c.asked, want) {
		t.Errorf("asked for %q, want %q", c.asked, want)
	}
}
