package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// writeText writes for people: the objects in which something was found, and a summary.
func writeText(w io.Writer, r Report, o Options) error {
	paint := o.Paint
	if paint == nil {
		paint = func(_, text string) string { return text }
	}
	var out bytes.Buffer
	groups, total := r.groups(), map[string]int{}
	for _, g := range groups {
		if len(g.findings) == 0 {
			continue
		}
		fmt.Fprintf(&out, "%s (%s)\n", paint(StyleObject, header(visible(g.Name))), where(g.File, g.Line))
		for _, f := range g.findings {
			total[f.Severity]++
			writeFinding(&out, f, paint)
		}
		out.WriteByte('\n')
	}
	fmt.Fprintf(&out, "%s, %d deny, %d warn", count(len(groups), "object"), total[Deny], total[Warn])
	if n := total[Audit]; n > 0 {
		fmt.Fprintf(&out, ", %d audit", n)
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

// header makes a visible text fit to begin a line: it is no finding, which is indented, and no command.
func header(text string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "::") {
		return `\` + text
	}
	return text
}

func writeFinding(out *bytes.Buffer, f *Finding, paint func(style, text string) string) {
	severity := visible(f.Severity)
	pad := strings.Repeat(" ", max(0, len(Audit)-len(severity)))
	fmt.Fprintf(out, "  %s%s %s  %s\n", paint(f.Severity, severity), pad, visible(f.Code), lines(f.text()))
	if fix := f.fix(); fix != "" {
		fmt.Fprintf(out, "    %s\n", paint(StyleFix, "fix: "+lines(fix)))
	}
	if f.Exception != "" {
		fmt.Fprintf(out, "    exception: %s\n", lines(f.Exception))
	}
}

// where is a place in a file, as editors and terminals understand it.
func where(file string, line int) string {
	if line < 1 {
		return visible(file)
	}
	return fmt.Sprintf("%s:%d", visible(file), line)
}

// lines makes a text fit to follow something. Its further lines are marked: so none can pass for a finding, nor begin with
// two colons, which a build on GitHub would take for a command.
func lines(text string) string {
	text = strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	all := strings.Split(text, "\n")
	for i := range all {
		all[i] = visible(all[i])
	}
	return strings.Join(all, "\n      | ")
}

// visible writes what cannot be seen the way Go does, for a terminal may obey it: control characters, marks that change the
// direction of writing, bytes that are no UTF-8. A build on GitHub obeys ##[ too, wherever in a line.
func visible(text string) string {
	text = strings.ReplaceAll(text, "##[", `#\#[`)
	if utf8.ValidString(text) && !strings.ContainsFunc(text, isHidden) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case isHidden(r):
			q := fmt.Sprintf("%+q", r)
			out.WriteString(q[1 : len(q)-1])
		default:
			out.WriteRune(r)
		}
		i += size
	}
	return out.String()
}

// isHidden is true for what a reader could not see, but for the joiners and selectors that scripts and pictures need.
func isHidden(r rune) bool {
	return !unicode.IsPrint(r) && r != '\u200c' && r != '\u200d' && r != '\u00a0' && r != '\u3000'
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
