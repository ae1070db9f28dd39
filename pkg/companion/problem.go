package companion

import (
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Problem is something about a cluster that somebody has to see to.
type Problem struct {
	Code setting.Code
	// Reason is the machine-readable word of an Event.
	Reason string
	// Object that it is about, as kind and name.
	Object string
	// What was found, what was expected, and what to do.
	Found, Remedy string
	// Node tells that a pod or its volume has the problem, not a companion.
	Node bool
	// Notice tells that all is well: it is worth knowing, no more.
	Notice bool
}

// String is the whole in a few sentences.
func (p Problem) String() string {
	return fmt.Sprintf("%s %s. %s (%s)", p.Object, p.Found, p.Remedy, p.Code)
}

// rbacDenied recognises the authorizer's own refusal, which an admission plugin's is not (k8s.io/apiserver,
// ForbiddenStatusError).
var rbacDenied = regexp.MustCompile(`cannot [a-z]+ resource "`)

// grant is the remedy for a missing right.
const grant = "Give Metamorph's ServiceAccount that right; manifests/webhook.yaml has all that it needs"

// refusal makes a problem of an error that a repetition will hardly mend; it is false for all others.
func refusal(object, verb string, err error) (Problem, bool) {
	switch {
	case apierrors.IsForbidden(err) && rbacDenied.MatchString(err.Error()):
		return Problem{
			Code: setting.NotAllowed, Reason: "NotAllowed", Object: object,
			Found:  "cannot be " + verb + ": " + err.Error(),
			Remedy: grant,
		}, true
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err), apierrors.IsInternalError(err):
		return Problem{
			Code: setting.Rejected, Reason: "Rejected", Object: object,
			Found:  "was refused by the API server: " + oneLine(err.Error()),
			Remedy: "Change what the message names; it is tried again by itself",
		}, true
	}
	return Problem{}, false
}

// secret finds what follows a word for a password. Messages are others' text, and end up where many may read them.
var secret = regexp.MustCompile(`(?i)((?:password|passwd|secret|token)[a-z_.]*["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;]+)`)

// stackFrame is a line of Java's that tells where, after those that tell what.
var stackFrame = regexp.MustCompile(`(?m)^\s+(?:at |\.\.\. [0-9]+ ).*$`)

// maxFound bounds what is repeated of somebody else's message.
const maxFound = 400

// oneLine makes one line of a message, of bounded length, and of text alone: it may come from a container.
func oneLine(text string) string {
	text = stackFrame.ReplaceAllString(text, "")
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, text)
	text = strings.TrimRight(secret.ReplaceAllString(text, "$1…"), ". ")
	if len(text) > maxFound {
		// The end of a log says what happened.
		text = "… " + strings.ToValidUTF8(text[len(text)-maxFound:], "")
	}
	return text
}
