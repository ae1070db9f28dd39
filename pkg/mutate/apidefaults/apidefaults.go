// Package apidefaults knows what the API server fills into an apps/v1 StatefulSet when nobody wrote it.
//
// The knowledge is one tree, in table.go: which field has which default, in Kubernetes 1.37. Three functions read
// it: [Apply] fills the defaults in, [Prune] takes them out, and [IsDefault] asks about one value. They work on
// decoded JSON (map[string]any, []any, string, bool, int64 or float64) and not on Go types, so that a field that is
// newer than this program passes through untouched. A test holds the tree against a real API server.
package apidefaults

import "strings"

// Apply fills everything into a StatefulSet that the API server's defaulting would, in place: it makes of what a user
// wrote what an admission webhook is shown. Quantities are brought to their canonical form, as the server does it
// (1024Mi becomes 1Gi).
//
// What the server shows only because its Go types cannot leave it out is not added: selector: null, containers: null,
// serviceName: "", resources: {}, status. Prune takes these out too, so Prune(Apply(x)) can be compared with Prune of
// what a webhook was shown.
//
// On a server older than 1.37, spec.updateStrategy.rollingUpdate.maxUnavailable is filled by no one; it means 1 there
// as well.
func Apply(obj map[string]any) {
	statefulSet.apply(obj)
}

// Prune removes from a StatefulSet, in place, everything that says no more than its absence would: values equal to
// the API default, null, "", empty lists and empty objects. Two objects mean the same to the API server if they are
// equal after it. Some empty values do carry a meaning and stay: a volume source, a probe, a selector of an
// affinity term, storageClassName: "", the values of labels and of other free-form maps, and objects that the table
// does not know.
func Prune(obj map[string]any) {
	statefulSet.prune(obj)
}

// IsDefault reports whether value, found at path in a StatefulSet, is what the API server would have filled in there
// (or empty, see [Prune]). Path holds field names; a segment that begins with # stands for an element of a list,
// whatever follows: ["spec", "template", "spec", "containers", "#kafka", "imagePullPolicy"].
//
// A default that depends on the fields beside it needs [IsDefaultIn]. Without them IsDefault assumes what holds in
// the absence of these: imagePullPolicy is IfNotPresent, as it is for a container whose image is still to be chosen.
// spec.replicas: 1 is a default too; whether somebody who writes it means it is for the caller to say.
func IsDefault(path []string, value any) bool {
	return IsDefaultIn(path, value, nil)
}

// IsDefaultIn is [IsDefault] with the object that holds the last field of path. It decides the conditional defaults:
// imagePullPolicy (Always for the tag latest, which is also that of an image without a tag), an image volume's
// pullPolicy, emptyDir: {} in a volume without any other source, and serviceAccount, which only repeats
// serviceAccountName.
func IsDefaultIn(path []string, value any, parent map[string]any) bool {
	n := statefulSet
	for _, segment := range path {
		if n == nil {
			break
		}
		if strings.HasPrefix(segment, "#") && n.kind == list {
			n = n.elem
			continue
		}
		if n.kind == freeForm {
			// Keys and values are the user's own: an empty label is a label.
			return value == nil
		}
		n = n.field(segment)
	}
	return n.isDefault(value, parent)
}
