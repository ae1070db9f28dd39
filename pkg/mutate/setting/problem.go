package setting

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Prefix is what every annotation and label of Metamorph starts with.
const Prefix = "metamorph.dev/"

// Code is a stable name for one kind of problem or warning; troubleshooting is keyed by it. A code is never reused.
type Code string

// The codes of settings (MM1xx) and of updates (MM2xx).
const (
	BadValue      Code = "MM101"
	Unknown       Code = "MM102"
	NoRole        Code = "MM103"
	RoleAsLabel   Code = "MM104"
	Contradiction Code = "MM105"
	BadName       Code = "MM106"
	BadSpec       Code = "MM107"
	Reserved      Code = "MM108"
	BadConfig     Code = "MM109"
	BadProfile    Code = "MM110"
	Password      Code = "MM111"
	Malformed     Code = "MM112"
	Adjusted      Code = "MM150"
	Derived       Code = "MM151"
	Ignored       Code = "MM152"
	Offline       Code = "MM153"
	Immutable     Code = "MM201"
	RoleAdded     Code = "MM202"
	RoleRemoved   Code = "MM203"
	HandEdited    Code = "MM204"
	OtherName     Code = "MM205"
	NotExpanded   Code = "MM206"

	// PolicyFailed is the only code of the series MM3xx that is no policy's.
	PolicyFailed Code = "MM300"

	// What the controller of the companions tells (MM4xx).
	NameTaken      Code = "MM401"
	SecretKeys     Code = "MM402"
	SecretMissing  Code = "MM403"
	SecretLost     Code = "MM404"
	SecondBudget   Code = "MM405"
	NoStorageClass Code = "MM406"
	Unschedulable  Code = "MM407"
	CannotStart    Code = "MM408"
	NodeFails      Code = "MM409"
	NotAllowed     Code = "MM410"
	Rejected       Code = "MM411"
)

// Codes tells of every code what it means and what to do, for the reference and the troubleshooting pages.
var Codes = []struct {
	Code  Code
	Title string
	Help  string
}{
	{BadValue, "a setting's value cannot be read", "Write the value as the message's example shows; `metamorph explain ANNOTATION` has the full rule."},
	{Unknown, "an annotation that Metamorph does not know, or not for this role", "Take the name that the message suggests, or see `metamorph explain` for all of them."},
	{NoRole, "settings without a role", "Add metamorph.dev/role: kafka or zookeeper, or remove Metamorph's annotations."},
	{RoleAsLabel, "the role written as a label", "Move metamorph.dev/role from metadata.labels to metadata.annotations."},
	{Contradiction, "two settings that cannot both hold", "Change one of the two; the message names both and where each comes from."},
	{BadName, "the StatefulSet's name cannot be used", "Pods carry the name in a label of at most 63 characters; choose a shorter one."},
	{BadSpec, "the spec says something that Metamorph cannot build on", "Change the named field; what Metamorph renders there is in `metamorph expand`."},
	{Reserved, "a name or field that Metamorph writes itself", "Remove the field; where a setting controls it, the message names that setting."},
	{BadConfig, "a line of config is wrong, unknown or not allowed", "Correct the line; identity, quorum and security follow from the annotations and cannot be set in config."},
	{BadProfile, "the profile does not exist or cannot be read", "Use dev, production, or the name of a ConfigMap labelled metamorph.dev/profile in Metamorph's namespace."},
	{Password, "a password where everybody can read it", "Put it into a Secret and name that in metamorph.dev/sasl-secret. Change the password: it has been sent in clear."},
	{Malformed, "not a StatefulSet that the API server would accept", "Correct the field; the types are those of apps/v1 StatefulSet."},
	{Adjusted, "a default was lowered to what this cluster can do", "Nothing to do, or write the setting on the StatefulSet to decide it."},
	{Derived, "a derived choice that is worth knowing", "Nothing to do, or write the setting that the message names."},
	{Ignored, "a default that does not apply", "Correct the annotation on the Namespace or the profile."},
	{Offline, "something only a live cluster knows was left out", "Pass it to the command, or let the webhook expand the object."},
	{Immutable, "a change to something that is fixed at creation", "See the message: it says how to get there instead."},
	{RoleAdded, "role added to a StatefulSet that Metamorph does not manage", "Create a new StatefulSet with the role and move over; the message names the steps."},
	{RoleRemoved, "role removed from a managed StatefulSet", "Set metamorph.dev/managed: \"false\" to make Metamorph let go; the pods stay as they are."},
	{HandEdited, "a rendered configuration file edited by hand", "Write the line into metamorph.dev/config instead."},
	{OtherName, "an expanded manifest under another name", "Apply the source that the message points to, under the new name."},
	{NotExpanded, "an annotated StatefulSet that nobody expanded", "The mutating webhook was not called: see whether its registration, 00-metamorph, is there and covers the namespace. Then apply again."},
	{PolicyFailed, "a policy could not be evaluated", "Mend the policy that the message names, or tune its onError; the log at the level debug has the details. Until then it counts as if it had found something."},
	{NameTaken, "an object that is needed beside the StatefulSet exists and is not Metamorph's", "Delete or rename the object that the message names, or label it as the message says; nothing was overwritten."},
	{SecretKeys, "a Secret without the keys that are needed", "Put every named key into the Secret; an immutable one has to be deleted and made again with the same other passwords."},
	{SecretMissing, "a Secret that an annotation names does not exist", "Create it in the StatefulSet's namespace; the pods start by themselves then."},
	{SecretLost, "volumes whose passwords are gone", "Restore the Secret from a backup. New passwords are never generated for volumes that were formatted with others; `metamorph purge` gives the data up."},
	{SecondBudget, "another PodDisruptionBudget covers the pods", "Nothing to do if it allows one pod to be missing; Metamorph makes none beside it."},
	{NoStorageClass, "the StorageClass does not exist", "Create it, or create the StatefulSet anew with metamorph.dev/storage-class naming one that exists; claims cannot change their class."},
	{Unschedulable, "no node has room for a pod, or may run it", "Add a node, or lower metamorph.dev/memory, metamorph.dev/cpu or the constraints in the spec that the message names."},
	{CannotStart, "a container cannot be started", "The message is Kubernetes' own: most often an image that cannot be pulled."},
	{NodeFails, "a node ends with an error", "The message is the node's last word: a volume of another cluster, a Secret's key, a port in use, ZooKeeper out of reach. It is started again by itself."},
	{NotAllowed, "Metamorph lacks a right", "Grant what the message names to Metamorph's ServiceAccount; the installed manifests have all that it needs."},
	{Rejected, "the API server refuses a companion", "The message is the API server's, or that of a policy or a quota: change what it names; it is tried again by itself."},
}

// Problem is one reason to refuse an object: which field, what was read, what is allowed, and an example.
type Problem struct {
	Code    Code   `json:"code"`
	Field   string `json:"field"`             // as Kubernetes writes it: metadata.annotations[metamorph.dev/heap]
	Got     string `json:"got,omitempty"`     // what was read, quoted; empty where there is nothing, or it is a secret
	Reason  string `json:"reason"`            // why it cannot be taken
	Allowed string `json:"allowed,omitempty"` // what can
	Example string `json:"example,omitempty"` // one value that can
}

// Message is the problem in one sentence, without the field.
func (p Problem) Message() string {
	var b strings.Builder
	if p.Got != "" {
		b.WriteString(p.Got + ": ")
	}
	b.WriteString(p.Reason)
	if p.Allowed != "" {
		b.WriteString("; allowed: " + p.Allowed)
	}
	if p.Example != "" {
		b.WriteString("; example: " + p.Example)
	}
	return b.String() + " (" + string(p.Code) + ")"
}

func (p Problem) Error() string { return p.Field + ": " + p.Message() }

// Warning is something a user should know of although the object is accepted.
type Warning struct {
	Code  Code   `json:"code"`
	Field string `json:"field,omitempty"`
	Text  string `json:"text"`
}

// maxWarning is what Kubernetes shows of one warning (k8s.io/apiserver, pkg/admission: 256 runes).
const maxWarning = 256

func (w Warning) String() string {
	s := w.Text + " (" + string(w.Code) + ")"
	if w.Field != "" {
		s = w.Field + ": " + s
	}
	if r := []rune(s); len(r) > maxWarning {
		s = string(r[:maxWarning-1]) + "…"
	}
	return s
}

// maxQuote bounds what a message repeats of a value.
const maxQuote = 80

// Quote repeats a value in a message: in quotes, control characters escaped, shortened.
func Quote(s string) string {
	if r := []rune(s); len(r) > maxQuote {
		return strconv.Quote(string(r[:maxQuote])) + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return strconv.Quote(s)
}

// secretWords are parts of names whose values nobody should repeat.
var secretWords = []string{"password", "passwd", "passphrase", "secret", "credential", "token", "jaas"}

// LooksSecret tells whether a key, by its name, holds something that is not for everybody's eyes.
func LooksSecret(key string) bool {
	k := strings.ToLower(key)
	return slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(k, w) })
}

// QuoteUnlessSecret is Quote for a value that may hold a password; then it is "".
func QuoteUnlessSecret(s string) string {
	if LooksSecret(s) {
		return ""
	}
	return Quote(s)
}

// Annotation is the field name of one of our annotations.
func Annotation(key string) string { return "metadata.annotations[" + Prefix + key + "]" }
