"""Tieout: billing, CRM, support, usage and the ERP tell the same story about money, proved every night."""
