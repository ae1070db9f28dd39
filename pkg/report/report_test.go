package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/metamorph-k8s/metamorph/pkg/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// usual is what a check of a few manifests finds.
func usual() report.Report {
	heap := report.Finding{
		Code: "MM301", Severity: report.Deny, Object: "StatefulSet shop/events", Field: "metadata.annotations[metamorph.dev/heap]",
		Annotation: "metamorph.dev/heap", Message: "the heap is 6Gi of 8Gi; at most half leaves room for the page cache", Fix: "4Gi",
		File: "deploy/kafka.yaml", Line: 12, Title: "too large a heap", Help: "Lower metamorph.dev/heap, or raise metamorph.dev/memory.",
	}
	role := report.Finding{
		Code: "MM103", Severity: report.Deny, Object: "StatefulSet shop/events", Field: "metadata.annotations", Message: "settings, but no role; allowed: kafka, zookeeper",
		File: "deploy/kafka.yaml", Line: 12, Title: "settings without a role",
	}
	rack := report.Finding{
		Code: "MM307", Severity: report.Warn, Object: "StatefulSet shop/orders", Annotation: "metamorph.dev/rack-aware",
		Message: "all pods may run in one zone\nif it fails, so does the cluster", Fix: "true", File: "deploy/kafka.yaml", Line: 40, Title: "no rack awareness",
	}
	known := report.Finding{
		Code: "MM301", Severity: report.Audit, Object: "StatefulSet default/zoo", Message: "the heap is 100% of the memory", File: report.Stdin, Line: 1,
		Title: "too large a heap", Exception: "moves to larger nodes in June",
	}
	return report.Report{
		Findings: []report.Finding{heap, role, rack, known},
		Objects: []report.Object{
			{"StatefulSet shop/events", "deploy/kafka.yaml", 12},
			{"StatefulSet shop/payments", "deploy/kafka.yaml", 30},
			{"StatefulSet shop/orders", "deploy/kafka.yaml", 40},
			{"StatefulSet default/zoo", report.Stdin, 1},
		},
		Version: "1.2.3",
	}
}

// hostile has in every field what could end the place that it stands in.
func hostile() report.Report {
	const bad = "a\r\n::error::x\n##[error]y]]><b a=\"'&%0A%,:\x00\x1b[31m\x7f\u0085\u2028\u202e\ufffe\xff😀 [l](http://x) {0}"
	f := report.Finding{
		Code: bad, Severity: bad, Object: bad, Field: bad, Annotation: bad, Message: bad, Fix: bad, File: bad, Line: -1, Title: bad, Help: bad, Exception: bad,
	}
	g := f
	g.Severity, g.Code = report.Deny, "MM301"
	return report.Report{Findings: []report.Finding{f, g}, Objects: []report.Object{{bad, "other", 3}}, Version: bad}
}

func write(tb testing.TB, format string, r report.Report, o report.Options) string {
	tb.Helper()
	var out bytes.Buffer
	if err := report.Write(&out, format, r, o); err != nil {
		tb.Fatal(err)
	}
	return out.String()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]report.Report{"usual": usual(), "hostile": hostile(), "empty": {}} {
		for _, format := range report.Formats() {
			t.Run(name+"/"+format, func(t *testing.T) {
				t.Parallel()
				file := "testdata/" + name + "." + format
				got := write(t, format, r, report.Options{})
				if *update {
					if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}

func TestPaint(t *testing.T) {
	t.Parallel()
	paint := func(style, text string) string { return "<" + style + ">" + text + "</>" }
	got := write(t, "text", usual(), report.Options{Paint: paint})
	for _, want := range []string{
		"<object>StatefulSet shop/events</> (deploy/kafka.yaml:12)\n", "  <deny>deny</>  MM301  metadata", "    <fix>fix: metamorph.dev/heap: 4Gi</>\n",
		"  <audit>audit</> MM301  ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
}

func TestUnknownFormat(t *testing.T) {
	t.Parallel()
	err := report.Write(io.Discard, "yaml", usual(), report.Options{})
	if want := `"yaml" is not a format; allowed: text, json, junit, sarif, github`; err == nil || err.Error() != want {
		t.Errorf("error %v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWriteFails(t *testing.T) {
	t.Parallel()
	for _, format := range report.Formats() {
		if err := report.Write(full{}, format, usual(), report.Options{}); err == nil || err.Error() != "no space left" {
			t.Errorf("%s: error %v", format, err)
		}
	}
}

func TestMany(t *testing.T) {
	t.Parallel()
	const n = 10000
	var r report.Report
	for i := range n {
		f := usual().Findings[i%4]
		f.Object, f.Code, f.Line = fmt.Sprintf("StatefulSet shop/events-%d", i), fmt.Sprintf("MM%d", i), i
		r.Findings = append(r.Findings, f)
	}
	for _, format := range report.Formats() {
		began := time.Now()
		parses(t, r, format)
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s took %s", format, took)
		}
	}
}

// FuzzWrite holds that every output can be read, and has as many results as there are findings.
func FuzzWrite(f *testing.F) {
	f.Add("MM301", "deny", "StatefulSet shop/events", "spec.replicas", "metamorph.dev/heap", "message", "1Gi", "kafka.yaml", 1, "title", "none")
	h := hostile().Findings[0]
	f.Add(h.Code, h.Severity, h.Object, h.Field, h.Annotation, h.Message, h.Fix, h.File, h.Line, h.Title, h.Exception)
	f.Add("::error::", "deny", "::error::", "\n::error::", "", "x", "##[error]", "::error::", 1, "x", "x")
	f.Add("", "", "", "", "", "", "", "", 0, "", "")
	f.Fuzz(func(t *testing.T, code, severity, object, field, annotation, message, fix, file string, line int, title, exception string) {
		if severity != report.Deny && severity != report.Warn {
			severity = report.Audit
		}
		one := report.Finding{
			Code: code, Severity: severity, Object: object, Field: field, Annotation: annotation, Message: message, Fix: fix,
			File: file, Line: line, Title: title, Help: title, Exception: exception,
		}
		denied := one
		denied.Severity = report.Deny
		r := report.Report{Findings: []report.Finding{one, denied}, Objects: []report.Object{{message, file, line}}, Version: title}
		for _, format := range report.Formats() {
			parses(t, r, format)
		}
	})
}

// parses reads an output the way its readers do.
func parses(t *testing.T, r report.Report, format string) {
	t.Helper()
	out := write(t, format, r, report.Options{})
	if !utf8.ValidString(out) || strings.ContainsAny(out, "\r\x00\x1b\x7f\u0085\u009b\u202e") {
		t.Errorf("%s: not UTF-8, or something that a terminal obeys: %q", format, out)
	}
	if format != "github" && strings.Contains(out, "##[") {
		t.Errorf("%s: a command: %q", format, out)
	}
	n := -1
	switch format {
	case "json":
		n = parseJSON(t, r, out)
	case "sarif":
		n = parseSARIF(t, out)
	case "junit":
		n = parseJUnit(t, out)
	case "github":
		n = parseGitHub(t, r, out)
	case "text":
		n = parseText(t, out)
	}
	if n != len(r.Findings) {
		t.Errorf("%s: %d results of %d findings in\n%s", format, n, len(r.Findings), out)
	}
}

func parseJSON(t *testing.T, r report.Report, out string) int {
	t.Helper()
	var got struct{ Findings []map[string]any }
	strict(t, out, &got)
	for i, f := range got.Findings {
		if want := strings.ToValidUTF8(r.Findings[i].Message, "\ufffd"); utf8.ValidString(r.Findings[i].Message) && f["message"] != want {
			t.Errorf("message %q instead of %q", f["message"], want)
		}
	}
	return len(got.Findings)
}

func strict(t *testing.T, out string, into any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(out))
	if err := dec.Decode(into); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("something behind the end: %v", err)
	}
}

func parseSARIF(t *testing.T, out string) int {
	t.Helper()
	var got struct {
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation *struct {
						ArtifactLocation struct{ URI string }
						Region           *struct{ StartLine int }
					}
				}
			}
		}
	}
	strict(t, out, &got)
	if got.Version != "2.1.0" || len(got.Runs) != 1 {
		t.Fatalf("version %s, %d runs", got.Version, len(got.Runs))
	}
	run := got.Runs[0]
	for _, r := range run.Results {
		if id := run.Tool.Driver.Rules[r.RuleIndex].ID; id != r.RuleID {
			t.Errorf("rule %q is at the place of %q", id, r.RuleID)
		}
		if r.Message.Text == "" || len(r.Locations) != 1 || !slices.Contains([]string{"error", "warning", "note"}, r.Level) {
			t.Errorf("a result without text, place or level: %+v", r)
		}
		p := r.Locations[0].PhysicalLocation
		if p == nil {
			continue
		}
		if _, err := url.Parse(p.ArtifactLocation.URI); err != nil || p.ArtifactLocation.URI == "" {
			t.Errorf("%q is no URI: %v", p.ArtifactLocation.URI, err)
		}
		if p.Region != nil && p.Region.StartLine < 1 {
			t.Errorf("line %d", p.Region.StartLine)
		}
	}
	return len(run.Results)
}

func parseJUnit(t *testing.T, out string) int {
	t.Helper()
	type testcase struct {
		Name    string `xml:"name,attr"`
		Failure *struct {
			Text string `xml:",chardata"`
		} `xml:"failure"`
		SystemOut string `xml:"system-out"`
	}
	var got struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Cases []testcase `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	tests, failures, findings := 0, 0, 0
	for _, s := range got.Suites {
		for _, c := range s.Cases {
			tests++
			text := c.SystemOut
			if c.Failure != nil {
				failures++
				text += c.Failure.Text
			}
			for l := range strings.Lines(text) {
				if !strings.HasPrefix(l, "    ") && strings.TrimSpace(l) != "" {
					findings++
				}
			}
		}
	}
	if tests != got.Tests || failures != got.Failures {
		t.Errorf("%d tests, %d failures, not %d and %d", tests, failures, got.Tests, got.Failures)
	}
	return findings
}

// parseGitHub reads as the runner does.
func parseGitHub(t *testing.T, r report.Report, out string) int {
	t.Helper()
	unescape := strings.NewReplacer("%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",", "%25", "%")
	n := 0
	for line := range strings.Lines(out) {
		command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "::")
		head, data, found := strings.Cut(command, "::")
		name, properties, _ := strings.Cut(head, " ")
		if !ok || !found || !slices.Contains([]string{"error", "warning", "notice"}, name) {
			t.Fatalf("no command: %q", line)
		}
		f := r.Findings[n]
		if m := f.Message; !strings.Contains(unescape.Replace(data), m) && !strings.ContainsFunc(m, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q is not in %q", m, data)
		}
		for p := range strings.SplitSeq(properties, ",") {
			if key, _, ok := strings.Cut(p, "="); !ok || !slices.Contains([]string{"file", "line", "title"}, key) {
				t.Errorf("property %q in %q", p, line)
			}
		}
		n++
	}
	return n
}

// parseText counts the lines that look like a finding.
func parseText(t *testing.T, out string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "    ") {
			n++
		}
		if strings.HasPrefix(strings.TrimSpace(line), "::") {
			t.Errorf("a command: %q", line)
		}
	}
	return n
}
