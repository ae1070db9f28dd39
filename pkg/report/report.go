// Package report writes what was found in manifests, for people and for machines: as text, JSON, JUnit XML, SARIF, and
// the commands with which GitHub Actions annotates a change.
//
// What it writes may come from somebody else's manifest. So no format lets a text end the place that it stands in: the
// outputs can be parsed, whatever is in them, and nothing in them is taken for a command of the terminal or of the build.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// The severities.
const (
	Deny  = "deny"
	Warn  = "warn"
	Audit = "audit"
)

// Stdin is the file of documents that were read from the standard input.
const Stdin = "stdin"

// Finding is one line of a report.
type Finding struct {
	// Code is the stable name of what was found: MM301.
	Code string
	// Severity is what follows: Deny, Warn or Audit. A refusal denies.
	Severity string
	// Object is kind, namespace and name: StatefulSet shop/events.
	Object string
	// Field is where in the object, as Kubernetes writes it; may be empty.
	Field string
	// Annotation is the one to change, with its prefix; may be empty.
	Annotation string
	// Message says what is wrong.
	Message string
	// Fix is a value of the annotation that would pass; may be empty.
	Fix string
	// File and Line are where the document begins.
	File string
	Line int
	// Title says in a few words what the code means; Help says what to do. They may be empty.
	Title, Help string
	// Exception is the reason of the exception that covers the finding; may be empty.
	Exception string
}

// place is what the finding is about: the field, or else the annotation; may be empty.
func (f *Finding) place() string {
	if f.Field == "" {
		return f.Annotation
	}
	return f.Field
}

// text is the finding without its severity and code.
func (f *Finding) text() string {
	if p := f.place(); p != "" {
		return p + ": " + f.Message
	}
	return f.Message
}

// fix is the line that would pass; empty if none is known.
func (f *Finding) fix() string {
	switch {
	case f.Fix == "":
		return ""
	case f.Annotation == "":
		return f.Fix
	}
	return f.Annotation + ": " + f.Fix
}

// Object is one that was checked.
type Object struct {
	// Name is kind, namespace and name, as in [Finding.Object].
	Name string
	// File and Line are where the document begins.
	File string
	Line int
}

// Report is what is written.
type Report struct {
	// Findings in the order in which people should read them.
	Findings []Finding
	// Objects are all that were checked, those without findings too.
	Objects []Object
	// Version is Metamorph's own.
	Version string
}

// Options are for people's sake.
type Options struct {
	// Paint colours a text of the format text. The style is a severity, or StyleObject or StyleFix. Nil leaves it plain.
	Paint func(style, text string) string
}

// The styles beside the severities.
const (
	StyleObject = "object"
	StyleFix    = "fix"
)

// format writes a report in one way.
type format struct {
	name  string
	write func(io.Writer, Report, Options) error
}

var formats = []format{
	{"text", writeText},
	{"json", writeJSON},
	{"junit", writeJUnit},
	{"sarif", writeSARIF},
	{"github", writeGitHub},
}

// Formats returns the names of the formats; the first is the default.
func Formats() []string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.name
	}
	return names
}

// Write writes a report in one of the [Formats].
func Write(w io.Writer, name string, r Report, o Options) error {
	i := slices.IndexFunc(formats, func(f format) bool { return f.name == name })
	if i < 0 {
		return fmt.Errorf("%q is not a format; allowed: %s", name, strings.Join(Formats(), ", "))
	}
	return formats[i].write(w, r, o)
}

// group is an object with what was found in it.
type group struct {
	Object

	findings []*Finding
}

// count is how many findings have a severity.
func (g *group) count(severity string) int {
	n := 0
	for _, f := range g.findings {
		if f.Severity == severity {
			n++
		}
	}
	return n
}

// groups returns the objects in their order, then those that only findings name.
func (r Report) groups() []*group {
	var all []*group
	known := map[Object]*group{}
	get := func(o Object) *group {
		if known[o] == nil {
			known[o] = &group{Object: o}
			all = append(all, known[o])
		}
		return known[o]
	}
	for _, o := range r.Objects {
		get(o)
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		g := get(Object{f.Object, f.File, f.Line})
		g.findings = append(g.findings, f)
	}
	return all
}
