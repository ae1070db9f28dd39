package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

const (
	// Controller is who reports the Events.
	Controller = "metamorph.dev/audit"
	// EventAction is what their reporter did.
	EventAction = "Audit"
)

// reasons of Events, by the worst that follows from the findings.
var reasons = map[policy.Action]string{policy.Deny: "PolicyDeny", policy.Warn: "PolicyWarn", policy.Audit: "PolicyAudit"}

// Limits of an Event (k8s.io/kubernetes, pkg/apis/core/validation/events.go) and of an object's name.
const (
	maxNote = 1024
	maxName = 253
)

// maxFailures is how many Events in a row may fail before the others are left for the next audit.
const maxFailures = 5

// Recorder writes Events. One whose name is taken is an error that says so (apierrors.IsAlreadyExists).
//
// It is not client-go's events.EventRecorder: that one takes all Events with the same object and reason, within six minutes
// and more, for repetitions of the first, and throws the notes of the others away. Nor would it tell that one was not written.
type Recorder interface {
	Record(ctx context.Context, e *eventsv1.Event) error
}

// NewRecorder makes a recorder that asks the API server. It needs the right to create Events in events.k8s.io.
func NewRecorder(config *rest.Config) (Recorder, error) {
	client, err := clientFor(config, eventsv1.SchemeGroupVersion)
	return &recorder{client}, err
}

type recorder struct{ client rest.Interface }

// Record implements [Recorder].
func (r *recorder) Record(ctx context.Context, e *eventsv1.Event) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return r.client.Post().Namespace(e.Namespace).Resource("events").SetHeader("Content-Type", "application/json").Body(raw).Do(ctx).Error()
}

// event is one to write.
type event struct {
	action       policy.Action
	regarding    corev1.ObjectReference
	note         string
	before, hash uint64
}

// consider plans an Event if the object's findings are not those that were told of last. What one audit has no room for
// counts as not told, so that the next one has it.
func (r *run) consider(s *subject, findings []policy.Finding) {
	if r.Recorder == nil {
		return
	}
	before, now := r.told[s.uid], hashOf(findings)
	switch {
	case now == before:
		if now != 0 {
			r.hashes[s.uid] = now
		}
		return
	case now == 0:
		r.hashes[s.uid] = 0 // should it come back, it is news
		return
	case before != 0:
		r.hashes[s.uid] = before // until the Event is written
	}
	e := event{action: worst(findings), before: before, hash: now}
	most := cmp.Or(r.MaxEvents, DefaultMaxEvents)
	at, _ := slices.BinarySearchFunc(r.due, e, func(a, b event) int {
		if a.action >= b.action {
			return -1 // among equals the first stays the first
		}
		return 1
	})
	if len(r.due) >= most {
		r.sum.Postponed++
		if at >= most {
			return
		}
		r.due = r.due[:most-1]
	}
	e.note = note(findings)
	e.regarding = corev1.ObjectReference{
		APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: s.namespace, Name: s.name, UID: s.uid, ResourceVersion: s.version,
	}
	r.due = slices.Insert(r.due, at, e)
}

// hashOf is a number for what was found; 0 for nothing. A policy that could not be evaluated is not the object's doing, and
// comes and goes with the load: it is for the metrics and the log.
func hashOf(findings []policy.Finding) uint64 {
	h := fnv.New64a()
	some := false
	for i := range findings {
		f := &findings[i]
		if f.Error {
			continue
		}
		some = true
		exception := ""
		if f.Exception != nil {
			exception = f.Exception.Reason + f.Exception.Expires.String()
		}
		for _, part := range []string{f.Code, f.Action.String(), f.Field, f.Annotation, f.Message, exception} {
			_, _ = io.WriteString(h, part)
			_, _ = h.Write([]byte{0})
		}
	}
	if !some {
		return 0
	}
	return max(h.Sum64(), 1)
}

// worst is the worst that follows from findings, leaving out what is no verdict.
func worst(findings []policy.Finding) policy.Action {
	w := policy.Off
	for i := range findings {
		if !findings[i].Error {
			w = max(w, findings[i].Action)
		}
	}
	return w
}

// note tells of as many findings as there is room for, the most important first.
func note(findings []policy.Finding) string {
	const rest = len(" … and 1000000 more")
	var b strings.Builder
	for i := range findings {
		f := &findings[i]
		text := strings.TrimPrefix(review.Field(f)+": "+review.Sentence(f), ": ")
		left := len(findings) - i - 1
		switch room := maxNote - rest - b.Len(); {
		case i == 0 && len(text) > room:
			b.WriteString(shortened(text, room))
		case len(text)+2 > room:
			fmt.Fprintf(&b, " … and %d more", left+1)
			return b.String()
		case i > 0:
			b.WriteString("; " + text)
		default:
			b.WriteString(text)
		}
	}
	return b.String()
}

// shortened cuts a sentence, but not its end, which is the code.
func shortened(text string, most int) string {
	const cut = "…"
	end := strings.LastIndex(text, " (")
	if end < 0 || len(text)-end > 40 {
		end = len(text)
	}
	head := text[:max(0, most-len(cut)-len(text[end:]))]
	return strings.ToValidUTF8(head, "") + cut + text[end:]
}

// tell writes the Events.
func (r *run) tell(ctx context.Context) {
	failures := 0
	for i := range r.due {
		e := &r.due[i]
		if failures >= maxFailures || ctx.Err() != nil {
			r.sum.Postponed += len(r.due) - i
			break
		}
		err := r.Recorder.Record(ctx, r.eventOf(e))
		switch {
		case apierrors.IsAlreadyExists(err): // this process's predecessor told, less than an Event's life ago
		case err != nil:
			if ctx.Err() == nil {
				failures++
				r.failed(reasonEvent)
				r.Log.Error(err, "Cannot write an Event", "namespace", e.regarding.Namespace, "name", e.regarding.Name)
			}
			continue
		default:
			r.sum.Events++
		}
		failures = 0
		r.hashes[e.regarding.UID] = e.hash
	}
	r.due = nil
}

// eventOf is an Event as it is written. Its name follows from what changed, so that a replica that starts, or becomes the
// leader, does not tell again what was told.
func (r *run) eventOf(e *event) *eventsv1.Event {
	suffix := fmt.Sprintf(".%016x", changeOf(e))
	name := strings.TrimRight(e.regarding.Name[:min(len(e.regarding.Name), maxName-len(suffix))], ".-")
	return &eventsv1.Event{
		TypeMeta:   metav1.TypeMeta{APIVersion: eventsv1.SchemeGroupVersion.String(), Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{Namespace: e.regarding.Namespace, Name: name + suffix},
		EventTime:  metav1.NewMicroTime(r.clock().Now()), ReportingController: Controller, ReportingInstance: r.instance(),
		Action: EventAction, Reason: reasons[e.action], Regarding: e.regarding, Note: e.note, Type: corev1.EventTypeWarning,
	}
}

func changeOf(e *event) uint64 {
	h := fnv.New64a()
	for _, part := range []string{string(e.regarding.UID), strconv.FormatUint(e.before, 16), strconv.FormatUint(e.hash, 16)} {
		_, _ = io.WriteString(h, part+"\x00")
	}
	return h.Sum64()
}

// remember keeps what was told. Objects that are gone are forgotten, if it is known that they are gone.
func (r *run) remember() {
	if r.Recorder == nil {
		return
	}
	if r.sum.Incomplete {
		kept := maps.Clone(r.told)
		if kept == nil {
			kept = map[types.UID]uint64{}
		}
		maps.Copy(kept, r.hashes)
		r.hashes = kept
	}
	maps.DeleteFunc(r.hashes, func(_ types.UID, hash uint64) bool { return hash == 0 })
	r.told = r.hashes
}
