"""The bus between publishers and deliveries: one interface, several implementations."""
