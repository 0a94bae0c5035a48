"""What people and data teams read: one HTML file, one workbook, and the result tables as files."""

from tieout.reports.data import Headline, ReportData, headline

__all__ = ["Headline", "ReportData", "headline"]
