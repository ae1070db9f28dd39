package leaf

import (
	"slices"
	"strings"
)

// Line is one setting of a projected configuration file.
type Line struct{ Key, Value string }

// Lines takes a rendered file apart: key=value, one a line.
func Lines(text string) []Line {
	var out []Line
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if k, v, ok := strings.Cut(l, "="); ok {
			out = append(out, Line{k, v})
		}
	}
	return out
}

func editFile(text, key string, v any, remove bool) any {
	lines := Lines(text)
	at := slices.IndexFunc(lines, func(l Line) bool { return l.Key == key })
	value, _ := v.(string)
	switch {
	case at >= 0 && remove:
		lines = slices.Delete(lines, at, at+1)
	case at >= 0:
		lines[at].Value = value
	case !remove:
		lines = append(lines, Line{key, value})
	}
	if len(lines) == 0 {
		return nil
	}
	return writeLines(lines)
}

// line takes the path of a file's line apart.
func (p Path) line() (file Path, key string, ok bool) {
	i := strings.LastIndex(string(p), sep+"#")
	if i < 0 {
		return "", "", false
	}
	file = p[:i]
	if !files[string(file[strings.LastIndexByte(string(file), 0)+1:])] {
		return "", "", false
	}
	return file, string(p[i+2:]), true
}

func lookup(root map[string]any, segments []string) any {
	var v any = root
	for _, s := range segments {
		m, _ := v.(map[string]any)
		v = m[s]
	}
	return v
}

func mergeLines(old any, put []Line) string {
	text, _ := old.(string)
	lines := Lines(text)
	at := make(map[string]int, len(lines)+len(put))
	for i, l := range lines {
		at[l.Key] = i
	}
	for _, l := range put {
		if i, ok := at[l.Key]; ok {
			lines[i].Value = l.Value
			continue
		}
		at[l.Key] = len(lines)
		lines = append(lines, l)
	}
	return writeLines(lines)
}

func writeLines(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Key)
		b.WriteByte('=')
		b.WriteString(l.Value)
		b.WriteByte('\n')
	}
	return b.String()
}
