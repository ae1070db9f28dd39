// Package server runs the webhook: TLS, caches, health, metrics, and an end that no request is lost in.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
	"github.com/metamorph-k8s/metamorph/pkg/audit"
	inventory "github.com/metamorph-k8s/metamorph/pkg/cluster"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/policy/source"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// Options say how to serve.
type Options struct {
	// Config is how the API server is reached.
	Config *rest.Config
	// Namespace is Metamorph's own; "" means [admission.DefaultNamespace].
	Namespace string
	// Version is recorded on the objects.
	Version string
	Log     logr.Logger

	// Address to serve admission on, with TLS; port 0 takes a free one.
	Address string
	// PlainAddress to serve health and metrics on, without TLS; "" serves none.
	PlainAddress string
	// Listening, if not nil, is told the addresses once they are listened on; plain is nil if there is none.
	Listening func(webhook, plain net.Addr)

	// CertFile and KeyFile hold the certificate and its key as PEM. They are read again when they change, and waited for
	// if they do not exist yet.
	CertFile, KeyFile string
	// SelfSigned makes a certificate for SelfSignedHosts instead; for use on one's own machine.
	SelfSigned      bool
	SelfSignedHosts []string
	// CAOut is a file to write the CA bundle of a self-signed certificate to; "" for none.
	CAOut string
	// Register is the URL, as https://HOST or https://HOST:PORT, to register the webhook in the cluster under, with the
	// self-signed certificate; "" for not.
	Register string

	// PolicyFolders hold policies of one's own; they are read again when they change.
	PolicyFolders []string
	// Certificates lets policies see the certificates (not the keys) in the Secrets that tls-secret names. It needs the right
	// to get Secrets.
	Certificates bool
	// Companions makes what is needed beside the StatefulSets: Services, Secrets and more.
	Companions bool
	// AuditInterval is how often everything that is stored is judged; 0 means never.
	AuditInterval time.Duration

	// DrainDelay is how long requests are still taken after the end has begun and readiness is off: kube-proxy needs a
	// moment to hear of it.
	DrainDelay time.Duration
	// DrainTimeout bounds the time that requests under way then have.
	DrainTimeout time.Duration
}

// errRegister is for a certificate that nobody could tell the API server of.
var errRegister = errors.New("only a self-signed certificate can be registered")

// server is one run.
type server struct {
	Options

	certificate certificate
	cluster     cluster.Cluster
	objects     dynamic.Interface
	engine      *policy.Engine
	policies    *policySources
	inventory   *inventory.Watcher
	find        *lookup
	reviewer    *review.Reviewer
	ca          []byte // of a self-signed certificate
	began       time.Time
	synced      atomic.Bool
	draining    atomic.Bool
}

// Run serves until the context ends, then drains. Its error is nil after an orderly end.
func Run(ctx context.Context, o Options) error {
	if o.Namespace == "" {
		o.Namespace = admission.DefaultNamespace
	}
	if o.Register != "" && !o.SelfSigned {
		return errRegister
	}
	s := &server{Options: o, began: time.Now()}
	if err := s.makeCertificate(); err != nil {
		return err
	}
	if err := s.makeCluster(); err != nil {
		return err
	}
	if err := s.makePolicies(); err != nil {
		return err
	}
	webhook, err := s.webhook()
	if err != nil {
		return err
	}
	return s.run(ctx, webhook)
}

// makePolicies loads the built-in policies, and prepares what they see.
func (s *server) makePolicies() (err error) {
	if s.objects, err = dynamic.NewForConfig(s.Config); err != nil {
		return err
	}
	s.engine = &policy.Engine{Inventory: &policy.Inventory{}}
	if s.policies, err = newPolicySources(s.engine, s.objects, s.Namespace, s.Log.WithName("policies")); err != nil {
		return err
	}
	for _, dir := range s.PolicyFolders {
		files, err := source.ReadFolder(dir)
		if err == nil {
			err = s.policies.manager.Put(source.FolderName(dir), files)
		}
		if err != nil {
			return err // there is no last good state yet
		}
	}
	s.inventory, err = inventory.New(s.Config, s.engine.Inventory, inventory.Options{Certificates: s.Certificates, Log: s.Log.WithName("inventory")})
	if err != nil {
		return err
	}
	s.find = &lookup{cached: s.cluster.GetCache(), live: s.cluster.GetAPIReader(), objects: s.objects, namespace: s.Namespace, log: s.Log}
	s.reviewer = &review.Reviewer{Engine: s.engine, Version: s.Version, Options: policy.Options{Failed: s.failed}}
	return nil
}

// failed logs a policy that could not be evaluated. The details may hold values of the object, so they are for debugging.
func (s *server) failed(p *policy.Policy, err error) {
	s.Log.Info("A policy could not be evaluated", "policy", p.Code, "file", p.File)
	s.Log.V(1).Info("A policy could not be evaluated", "policy", p.Code, "details", err.Error())
}

func (s *server) makeCertificate() (err error) {
	if !s.SelfSigned {
		return nil
	}
	if s.ca, err = s.certificate.selfSigned(s.SelfSignedHosts); err != nil || s.CAOut == "" {
		return err
	}
	return os.WriteFile(s.CAOut, s.ca, 0o644) //nolint:gosec // A CA certificate is for everybody to read.
}

// makeCluster makes client and caches. It is not a manager: that one stops its caches before the webhook has drained, and
// if it is stopped before they are complete it never ends (controller-runtime 0.25, runnableGroup.Start).
func (s *server) makeCluster() error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	s.cluster, err = cluster.New(s.Config, func(o *cluster.Options) {
		o.Scheme = scheme
		o.Logger = s.Log
		o.Cache = cacheOptions(s.Namespace)
		o.Client.Cache = &client.CacheOptions{DisableFor: []client.Object{
			&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{},
		}}
		o.MapperProvider = func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return newMapper(), nil }
	})
	if err != nil {
		return err
	}
	// Before the start, so that the caches are complete when they say so.
	for _, kind := range cached() {
		if _, err := s.cluster.GetCache().GetInformer(context.Background(), kind, cache.BlockUntilSynced(false)); err != nil {
			return err
		}
	}
	return nil
}

// newScheme knows the kinds that are read and written, and no others: each costs memory.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.ConfigMap{}, &corev1.ConfigMapList{})
	scheme.AddKnownTypes(admissionregistrationv1.SchemeGroupVersion,
		&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.MutatingWebhookConfigurationList{},
		&admissionregistrationv1.ValidatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfigurationList{})
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	metav1.AddToGroupVersion(scheme, admissionregistrationv1.SchemeGroupVersion)
	return scheme, metav1.AddMetaToScheme(scheme)
}

// newMapper knows the paths of these kinds, so that the start needs no discovery and no right to it.
func newMapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	m.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	// A cache of one namespace asks for the list's scope too.
	m.Add(corev1.SchemeGroupVersion.WithKind("ConfigMapList"), meta.RESTScopeNamespace)
	m.Add(admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"), meta.RESTScopeRoot)
	m.Add(admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"), meta.RESTScopeRoot)
	return m
}

// webhook is what is served with TLS.
func (s *server) webhook() (http.Handler, error) {
	mux := http.NewServeMux()
	mutator := &admission.Mutator{Namespaces: s.find, Profiles: s.find, Version: s.Version, Metrics: admissionMetrics()}
	validator := &admission.Validator{
		Namespaces: s.find, Profiles: s.find, StatefulSets: s.find, Certificates: s.inventory, Reviewer: s.reviewer, Metrics: admissionMetrics(), Own: s.Namespace,
	}
	for path, h := range map[string]ctrladmission.Handler{
		admission.MutatePath: mutator, admission.ValidatePath: validator, admission.ValidateScalePath: validator,
	} {
		handler, err := admission.Serve(h, s.Log)
		if err != nil {
			return nil, err
		}
		mux.Handle("POST "+path, handler)
	}
	s.health(mux)
	return mux, nil
}

// plain is what is served without TLS.
func (s *server) plain() http.Handler {
	mux := http.NewServeMux()
	s.health(mux)
	mux.Handle("GET "+admission.MetricsPath, promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{}))
	return mux
}

func (s *server) health(mux *http.ServeMux) {
	mux.HandleFunc("GET "+admission.HealthPath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET "+admission.ReadyPath, func(w http.ResponseWriter, _ *http.Request) {
		if why := s.notReady(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

// inventoryPatience is how long readiness waits for what policies see of the cluster. A kind that cannot be listed, for
// whatever reason, is unknown to policies, which they can live with; an unready webhook that fails closed nobody can.
const inventoryPatience = 30 * time.Second

// notReady tells why requests should go to another replica; "" if they should not.
func (s *server) notReady() string {
	switch {
	case s.draining.Load():
		return "the server is stopping"
	case !s.certificate.ready():
		return errNoCertificate.Error()
	case !s.synced.Load():
		return "the caches are not complete yet"
	case !s.policies.synced.Load():
		return "the policies are not read yet"
	case !s.inventory.Synced() && time.Since(s.began) < inventoryPatience:
		return "what policies see of the cluster is not complete yet"
	}
	return ""
}

// Limits of a connection. A body is bounded by the admission handler.
const (
	headerTimeout  = 10 * time.Second
	readTimeout    = 30 * time.Second // an API server waits no longer for the answer
	idleTimeout    = 90 * time.Second
	maxHeaderBytes = 64 << 10
)

func (s *server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: logError(s.Log),
	}
}

// run starts all parts and waits for the end of the context, or of one of them.
func (s *server) run(ctx context.Context, webhook http.Handler) error {
	config := &net.ListenConfig{}
	tlsListener, err := config.Listen(ctx, "tcp", s.Address)
	if err != nil {
		return err
	}
	defer tlsListener.Close()
	servers := []*http.Server{s.httpServer(webhook)}
	servers[0].TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate.get}
	var plainListener net.Listener
	var plainAddress net.Addr
	if s.PlainAddress != "" {
		if plainListener, err = config.Listen(ctx, "tcp", s.PlainAddress); err != nil {
			return err
		}
		defer plainListener.Close()
		plainAddress = plainListener.Addr()
		servers = append(servers, s.httpServer(s.plain()))
	}

	// The parts outlive the context until they are drained.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts := make(chan error, 8+len(s.PolicyFolders))
	left := 0
	start := func(part func() error) {
		left++
		go func() { parts <- part() }()
	}
	start(func() error { return s.cluster.Start(running) })
	start(func() error { return served(servers[0].ServeTLS(tlsListener, "", "")) })
	if plainListener != nil {
		start(func() error { return served(servers[1].Serve(plainListener)) })
	}
	if !s.SelfSigned {
		start(func() error { return s.certificate.watch(running, s.CertFile, s.KeyFile, s.Log) })
	}
	start(func() error { return s.policies.watch(running) })
	start(func() error { return s.inventory.Run(running) })
	start(func() error { return lead(running, s.Config, s.Namespace, s.Log.WithName("leader"), s.asLeader) })
	for _, dir := range s.PolicyFolders {
		start(func() error {
			s.policies.manager.WatchFolder(running, dir, folderInterval, func(err error) { s.Log.Error(err, "A folder of policies cannot be read", "folder", dir) })
			return nil
		})
	}
	start(func() error { return s.prepare(running, tlsListener.Addr()) })
	if s.Listening != nil {
		s.Listening(tlsListener.Addr(), plainAddress)
	}

	var failure error
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case err := <-parts:
			left--
			// Only the preparation may end by itself.
			failure, done = err, err != nil
		}
	}
	if failure == nil {
		s.drain(servers)
	}
	stop()
	for _, srv := range servers {
		_ = srv.Close()
	}
	for ; left > 0; left-- {
		failure = errors.Join(failure, <-parts)
	}
	return failure
}

// folderInterval is how often a folder of policies is read.
const folderInterval = 5 * time.Second

// asLeader is what one replica does for all.
func (s *server) asLeader(ctx context.Context) {
	recorder, err := audit.NewRecorder(s.Config)
	if err != nil {
		s.Log.Error(err, "There will be no events")
		recorder = nil
	}
	var work sync.WaitGroup
	work.Go(func() { s.policies.report(ctx, recorder) })
	if s.Companions {
		work.Go(func() { s.companions(ctx, recorder) })
	}
	if s.AuditInterval > 0 {
		work.Go(func() { s.audit(ctx, recorder) })
	}
	work.Wait()
}

// prepare waits for the caches, then registers the webhook if that was asked for.
func (s *server) prepare(ctx context.Context, listening net.Addr) error {
	if !s.cluster.GetCache().WaitForCacheSync(ctx) {
		return nil // the end came first
	}
	s.synced.Store(true)
	// Compiling the policies leaves several times as much garbage as they take; a server at rest would keep it for minutes.
	debug.FreeOSMemory()
	s.Log.Info("Ready to serve, if there is a certificate")
	if s.Register == "" {
		return nil
	}
	url, err := registrationURL(s.Register, listening)
	if err != nil {
		return err
	}
	err = register(ctx, s.cluster.GetClient(), admission.RegistrationOptions{Namespace: s.Namespace, URL: url, CABundle: s.ca})
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil // the end came first
		}
		return err
	}
	s.Log.Info("Registered the webhook", "url", url, "undo", "kubectl delete mutatingwebhookconfiguration/"+admission.RegistrationName+" validatingwebhookconfiguration/"+admission.ValidatingRegistrationName)
	return nil
}

// drain lets the requests under way finish: readiness goes first, then new connections, then, after a bounded time,
// what is left.
func (s *server) drain(servers []*http.Server) {
	s.draining.Store(true)
	s.Log.Info("Stopping", "delay", s.DrainDelay.String(), "timeout", s.DrainTimeout.String())
	// Clients with an open connection learn with their next answer that they should find another replica.
	servers[0].SetKeepAlivesEnabled(false)
	time.Sleep(s.DrainDelay)
	ctx, cancel := context.WithTimeout(context.Background(), s.DrainTimeout)
	defer cancel()
	for _, srv := range servers {
		if err := srv.Shutdown(ctx); err != nil {
			s.Log.Error(err, "Requests are cut off")
		}
	}
}

// served drops the error that tells of an orderly end.
func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
