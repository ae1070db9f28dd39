package companion

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// The conditions in the annotation metamorph.dev/conditions. They stand in an annotation because the controller of StatefulSets
// writes the status anew whenever it changes, without what others put there.
const (
	// CompanionsReady is True when all that is needed beside the StatefulSet is there.
	CompanionsReady = "CompanionsReady"
	// NodesHealthy is False while something is known to keep a node from becoming ready.
	NodesHealthy = "NodesHealthy"
)

// Controller is who reports the Events, and Action what it did.
const (
	Controller = "metamorph.dev/companion"
	action     = "Reconcile"
)

// maxNote bounds an Event's note (k8s.io/kubernetes, pkg/apis/core/validation/events.go), and a condition's message.
const maxNote = 1024

// Conditions reads the annotation; nil if there is none that can be read.
func Conditions(annotations map[string]string) []metav1.Condition {
	var out []metav1.Condition
	if json.Unmarshal([]byte(annotations[setting.Prefix+settings.Conditions]), &out) != nil {
		return nil
	}
	return out
}

// report tells what changed: in the annotation, and as Events. What is told already is not told again, also by another replica.
func (r *run) report() {
	if len(r.created) > 0 {
		r.happened("CompanionsCreated", "Created "+strings.Join(r.created, ", "))
	}
	if r.dying || r.partial && len(r.problems) == 0 {
		return
	}
	before := Conditions(r.set.Annotations)
	now := []metav1.Condition{r.condition(CompanionsReady, before), r.condition(NodesHealthy, before)}
	if slices.EqualFunc(before, now, alike) {
		return
	}
	raw, err := json.Marshal(now)
	if err != nil {
		panic(err) // strings and times
	}
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("apps/v1")
	u.SetKind("StatefulSet")
	u.SetNamespace(r.set.Namespace)
	u.SetName(r.set.Name)
	u.SetUID(r.set.UID) // or it could be made anew, just now that it is deleted
	u.SetAnnotations(map[string]string{setting.Prefix + settings.Conditions: string(raw)})
	// The ensemble is applied under FieldManager; its conditions must not undo that.
	err = r.client.Apply(r.ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(FieldManager+"-conditions"), client.ForceOwnership)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return // gone
	case err != nil:
		if _, refused := refusal("", "", err); !refused {
			r.err = errors.Join(r.err, fmt.Errorf("the conditions cannot be written: %w", err))
			return
		}
		r.Log.Error(err, "The conditions cannot be written", "namespace", r.set.Namespace, "name", r.set.Name)
	}
	for i := range r.problems {
		kind := corev1.EventTypeWarning
		if r.problems[i].Notice {
			kind = corev1.EventTypeNormal
		}
		if !strings.Contains(anyNumber(messageOf(before)), anyNumber(r.problems[i].String())) {
			r.event(kind, r.problems[i].Reason, r.problems[i].String())
		}
	}
	for i := range now {
		if now[i].Status == metav1.ConditionTrue && i < len(before) && before[i].Status == metav1.ConditionFalse {
			r.happened(now[i].Type, "Solved: "+before[i].Message)
		}
	}
}

// alike tells whether two conditions say the same, whatever their numbers: others' messages count nodes and carry times, which
// are no news.
func alike(a, b metav1.Condition) bool {
	a.Message, b.Message = anyNumber(a.Message), anyNumber(b.Message)
	return a == b
}

var digits = regexp.MustCompile(`[0-9]+`)

func anyNumber(text string) string { return digits.ReplaceAllString(text, "#") }

func messageOf(all []metav1.Condition) string {
	var b strings.Builder
	for i := range all {
		b.WriteString(all[i].Message + "\n")
	}
	return b.String()
}

// condition is one as it should stand now. Its time is when the status last changed.
func (r *run) condition(kind string, before []metav1.Condition) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "AsExpected"}
	for i := range r.problems {
		p := &r.problems[i]
		if p.Node != (kind == NodesHealthy) {
			continue
		}
		if !p.Notice && c.Status == metav1.ConditionTrue {
			c.Status, c.Reason = metav1.ConditionFalse, p.Reason
		}
		text := p.String()
		if c.Message != "" {
			text = c.Message + "; " + text
		}
		c.Message = cut(text)
	}
	if r.partial && c.Message == "" {
		if i := slices.IndexFunc(before, func(b metav1.Condition) bool { return b.Type == kind }); i >= 0 {
			return before[i]
		}
	}
	c.LastTransitionTime = metav1.NewTime(r.clock.Now().UTC().Truncate(time.Second))
	for i := range before {
		if before[i].Type == kind && before[i].Status == c.Status {
			c.LastTransitionTime = before[i].LastTransitionTime
		}
	}
	return c
}

// age is for how long something has been wrong, as far as this replica knows: the conditions may not be its to write.
func (r *run) age() (time.Duration, bool) {
	key := client.ObjectKeyFromObject(r.set)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.problems, func(p Problem) bool { return !p.Notice }) {
		delete(r.bad, key)
		return 0, false
	}
	since, ok := r.bad[key]
	if !ok {
		since = r.clock.Now()
		r.bad[key] = since
	}
	return r.clock.Since(since), true
}

func cut(text string) string {
	const mark = "…"
	if len(text) <= maxNote {
		return text
	}
	return strings.ToValidUTF8(text[:maxNote-len(mark)], "") + mark
}

// maxName bounds an object's name.
const maxName = 253

// event writes an Event. Its name follows from what it says, so that nothing is told twice within an Event's life.
func (r *run) event(kind, reason, note string) {
	if r.Recorder == nil {
		return
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%s\x00%s", r.set.UID, reason, anyNumber(note))
	suffix := fmt.Sprintf(".%016x", h.Sum64())
	name := strings.TrimRight(r.set.Name[:min(len(r.set.Name), maxName-len(suffix))], ".-")
	err := r.Recorder.Record(r.ctx, &eventsv1.Event{
		TypeMeta:   metav1.TypeMeta{APIVersion: eventsv1.SchemeGroupVersion.String(), Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{Namespace: r.set.Namespace, Name: name + suffix},
		EventTime:  metav1.NewMicroTime(r.clock.Now()), ReportingController: Controller, ReportingInstance: r.instance,
		Action: action, Reason: reason, Note: cut(note), Type: kind,
		Regarding: corev1.ObjectReference{
			APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: r.set.Namespace, Name: r.set.Name, UID: r.set.UID, ResourceVersion: r.set.ResourceVersion,
		},
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		r.Log.Error(err, "Cannot write an Event", "namespace", r.set.Namespace, "name", r.set.Name, "reason", reason)
	}
}

// instance names this replica.
func instance() string {
	host, _ := os.Hostname()
	return cmp.Or(host, "metamorph")
}
