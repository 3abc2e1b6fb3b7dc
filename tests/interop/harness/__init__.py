"""The brokers, the clients and the development PKI that the interoperability tests are made of."""
