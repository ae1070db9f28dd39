package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The elements of JUnit that continuous integration reads. There is no standard; these are valid by the schemas in use, that
// of Jenkins' xUnit plugin among them.
type (
	junitSuites struct {
		XMLName  xml.Name      `xml:"testsuites"`
		Name     string        `xml:"name,attr"`
		Tests    int           `xml:"tests,attr"`
		Failures int           `xml:"failures,attr"`
		Errors   int           `xml:"errors,attr"`
		Suites   []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		File     string      `xml:"file,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		Classname string        `xml:"classname,attr"`
		Failure   *junitFailure `xml:"failure"`
		SystemOut *junitOutput  `xml:"system-out"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",cdata"`
	}
	junitOutput struct {
		Text string `xml:",cdata"`
	}
)

// writeJUnit writes a suite for every file, with a test for every object: it fails if something denies. Warnings are its
// output. Viewers show one failure of a test, so all findings are in that one. XML cannot hold what [visible] escapes.
func writeJUnit(w io.Writer, r Report, _ Options) error {
	all := junitSuites{Name: "metamorph check"}
	byFile := map[string]*junitSuite{}
	for _, g := range r.groups() {
		s := byFile[g.File]
		if s == nil {
			s = &junitSuite{Name: visible(g.File), File: visible(g.File)}
			byFile[g.File] = s
			all.Suites = append(all.Suites, s)
		}
		c := g.junit()
		s.Cases = append(s.Cases, c)
		s.Tests++
		all.Tests++
		if c.Failure != nil {
			s.Failures++
			all.Failures++
		}
	}
	var out bytes.Buffer
	out.WriteString(xml.Header)
	enc := xml.NewEncoder(&out)
	enc.Indent("", "    ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

func (g *group) junit() junitCase {
	c := junitCase{Name: visible(g.Name), Classname: visible(g.File)}
	var failure, other strings.Builder
	var codes []string
	for _, f := range g.findings {
		to := &other
		if f.Severity == Deny {
			to = &failure
			if !slices.Contains(codes, f.Code) {
				codes = append(codes, f.Code)
			}
		}
		fmt.Fprintf(to, "%s: %s %s: %s\n", header(where(f.File, f.Line)), visible(f.Severity), visible(f.Code), lines(f.text()))
		if fix := f.fix(); fix != "" {
			fmt.Fprintf(to, "    fix: %s\n", lines(fix))
		}
		if f.Exception != "" {
			fmt.Fprintf(to, "    exception: %s\n", lines(f.Exception))
		}
	}
	if other.Len() > 0 {
		c.SystemOut = &junitOutput{other.String()}
	}
	switch n := g.count(Deny); {
	case n == 1:
		i := slices.IndexFunc(g.findings, func(f *Finding) bool { return f.Severity == Deny })
		c.Failure = &junitFailure{Message: visible(g.findings[i].text())}
	case n > 1:
		c.Failure = &junitFailure{Message: fmt.Sprintf("%d findings", n)}
	default:
		return c
	}
	c.Failure.Type, c.Failure.Text = visible(strings.Join(codes, " ")), failure.String()
	return c
}
