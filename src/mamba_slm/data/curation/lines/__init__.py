"""Lines that stand in many documents: menus, banners, licences and footers of web sites."""
