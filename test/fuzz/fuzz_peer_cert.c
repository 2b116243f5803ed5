/* fuzz_peer_cert.c - certificates that a client may show: whom they name, if anybody. */
#include "base/assert.h"
#include "base/str.h"
#include "net/net_int.h"

#include <openssl/x509.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const unsigned char *at = data;
	X509 *cert = d2i_X509(NULL, &at, (long)size);
	struct mg_peer_cert peer;

	for (long verify = X509_V_OK; cert != NULL && verify < 100; verify += 9) {
		mg_peer_cert__read(cert, verify, &peer);
		size_t len = strnlen(peer.name, sizeof peer.name);

		mg_assert(len < sizeof peer.name && mg_utf8_valid(peer.name, len));
		mg_assert(!peer.good || (verify == X509_V_OK && len > 0 && peer.node == 0));
		mg_assert(peer.node == 0 || verify == X509_V_OK);
		mg_assert(peer.good == (peer.reason[0] == '\0'));
		for (size_t i = 0; i < len; i++) {
			mg_assert((unsigned char)peer.name[i] >= 0x20 && peer.name[i] != 0x7f);
		}
	}
	X509_free(cert);
	return 0;
}
