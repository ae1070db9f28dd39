package apidefaults

import "strings"

// pullPolicyOf returns the default pull policy for the image reference in the field beside: Always for the tag
// latest, given or implied, and IfNotPresent for all else, references included that cannot be parsed.
func pullPolicyOf(field string) func(beside object) any {
	return func(beside object) any {
		if ref, _ := beside[field].(string); isLatest(ref) {
			return "Always"
		}
		return "IfNotPresent"
	}
}

// isLatest reports whether the API server takes an image reference for one of tag latest. It is written out here
// because a reference is parsed for each container of each request, and the usual parser is made of regular
// expressions.
func isLatest(ref string) bool {
	if strings.Contains(ref, "@") {
		// A digest: without a tag there is no implied one, with a tag that one counts.
		ref, _, _ = strings.Cut(ref, "@")
		name, tag := splitTag(ref)
		return tag == "latest" && validName(name)
	}
	name, tag := splitTag(ref)
	return (tag == "" && name == ref || tag == "latest") && validName(name)
}

func splitTag(ref string) (name, tag string) {
	i := strings.LastIndexByte(ref, ':')
	if i < 0 || strings.IndexByte(ref[i:], '/') >= 0 {
		return ref, ""
	}
	return ref[:i], ref[i+1:]
}

// validName reports whether a repository name can be parsed: a domain, if the part before the first slash looks like
// one, and path components of lower-case letters and digits with single separators between them.
func validName(name string) bool {
	path := name
	if first, rest, ok := strings.Cut(name, "/"); ok &&
		(strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first) {
		if first == "" || strings.IndexFunc(first, notInDomain) >= 0 {
			return false
		}
		path = rest
	} else if isImageID(name) {
		return false
	}
	if path == "" {
		return false
	}
	for path != "" {
		var component string
		component, path, _ = strings.Cut(path, "/")
		if !validComponent(component) {
			return false
		}
	}
	return !strings.HasSuffix(name, "/")
}

func notInDomain(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-.:[]", r)
}

func validComponent(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '.' || c == '_' || c == '-':
			if i == 0 || i == len(s)-1 {
				return false
			}
			// "__" and any number of dashes are one separator; ".." and the like are not.
			if p := s[i-1]; (p == '.' || p == '_' || p == '-') && (p != c || c == '.') {
				return false
			}
		default:
			return false
		}
	}
	return !strings.Contains(s, "___")
}

// isImageID reports whether a name is 64 hexadecimal digits, which the parser refuses as ambiguous.
func isImageID(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}
