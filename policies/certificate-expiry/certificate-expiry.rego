# METADATA
# title: the certificate has expired, or soon will
# description: >-
#   With an expired certificate no client connects any more, and no node to another: a cluster that still runs falls apart with the
#   next connection, a restart at the latest. A node reads the certificate when it starts, so a renewed one needs a restart too.
# custom:
#   code: MM335
#   severity: deny
#   profiles: {dev: warn}
#   fix: Renew the certificate in the Secret of metamorph.dev/tls-secret, then restart the nodes.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     days:
#       type: integer
#       minimum: 0
#       default: 14
#       description: Days before the expiry from which on it is told; at most a quarter of the certificate's life, so that short-lived ones are no noise.
package metamorph.policies.certificate_expiry

import data.metamorph.lib

# A set that is there must not be kept from a change by the passing of time.
deny contains result if {
	input.request.operation == "CREATE"
	result := expired
}

warn contains result if {
	input.request.operation != "CREATE"
	result := expired
}

expired := {
	"msg": sprintf("the certificate in the Secret %s expired on %s", [lib.setting("tls-secret"), date(lib.certificate.notAfter)]),
	"field": field,
} if {
	input.now >= lib.certificate.notAfter
}

warn contains result if {
	certificate := lib.certificate
	input.now < certificate.notAfter

	# cert-manager renews when a third is left.
	notice := min([data.parameters.days * 86400, (certificate.notAfter - certificate.notBefore) / 4])
	certificate.notAfter - input.now < notice
	result := {
		"msg": sprintf("the certificate in the Secret %s expires on %s", [lib.setting("tls-secret"), date(certificate.notAfter)]),
		"field": field,
	}
}

warn contains result if {
	input.now < lib.certificate.notBefore
	result := {
		"msg": sprintf("the certificate in the Secret %s is valid from %s on", [lib.setting("tls-secret"), date(lib.certificate.notBefore)]),
		"field": field,
	}
}

field := "metadata.annotations[metamorph.dev/tls-secret]"

# Certificates may name years that nanoseconds cannot.
date(seconds) := time.format([max([-9000000000, min([9000000000, seconds])]) * 1000000000, "UTC", "2006-01-02"])
